package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
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

// TestAuthoritiesOfRegistries: the image of the operator has no certificate authorities, so the program brings them. Those of the admin are added.
func TestAuthoritiesOfRegistries(t *testing.T) {
	if os.Getenv("NO_AUTHORITIES") == "" { // the system's are read only once in a process
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		command.Env = append(os.Environ(), "NO_AUTHORITIES=true", "SSL_CERT_FILE=/nonexistent", "SSL_CERT_DIR=/nonexistent")
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	authorities, err := registryAuthorities("")
	if err != nil {
		t.Fatal(err)
	}
	if authorities.Equal(x509.NewCertPool()) {
		t.Error("without those of the system, there are no certificate authorities")
	}
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	own := server.Certificate()
	isTrusted := func(authorities *x509.CertPool) bool {
		_, err := own.Verify(x509.VerifyOptions{Roots: authorities, DNSName: "example.com"})
		return err == nil
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	more, err := registryAuthorities(file)
	if err != nil || isTrusted(authorities) || !isTrusted(more) {
		t.Errorf("%v; trusted without the file: %t, with it: %t", err, isTrusted(authorities), isTrusted(more))
	}
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, invalid := range []string{file, file + ".absent"} {
		if _, err := registryAuthorities(invalid); err == nil || !strings.Contains(err.Error(), "--registry-ca-file") {
			t.Errorf("%s: %v", invalid, err)
		}
	}
}
