package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCertificateIsChecked: with a certificate that is not there, the operator does not start, instead of making one itself.
func TestCertificateIsChecked(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := checkCertificate(dir); err == nil || !strings.Contains(err.Error(), "--metrics-cert-path") || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: got %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(checkCertificate(dir), checkCertificate("")); err != nil {
		t.Error(err)
	}
}
