package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/cert"

	"mcpserver-operator/tests/cluster"
)

// TestMetricsAreServedWithTheCertificateOfTheAdmin verifies that the operator serves metrics with the certificate in --metrics-cert-path, and
// uses a renewed certificate without a restart.
func TestMetricsAreServedWithTheCertificateOfTheAdmin(t *testing.T) {
	dir := t.TempDir()
	first := writeCertificate(t, dir)
	own, err := theCluster.StartOperator(t.Context(), "--namespaces=none", "--metrics-cert-path="+dir)
	must(t, err)
	t.Cleanup(func() { must(t, own.Stop()) })
	if err := connect(t, own, first); err != nil {
		t.Fatalf("a client that trusts only the certificate cannot connect: %v", err)
	}
	renewed := writeCertificate(t, dir)
	eventually(t.Context(), t, "a client that trusts only the renewed certificate to connect", func(context.Context) (string, bool) {
		err := connect(t, own, renewed)
		return fmt.Sprint(err), err == nil
	})
}

// writeCertificate writes a new certificate for 127.0.0.1 to a directory, with the file names of a mounted Secret. It returns a pool that trusts
// only this certificate.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", nil, nil)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, corev1.TLSCertKey), certificate, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, corev1.TLSPrivateKeyKey), key, 0o600))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return pool
}

// connect opens a TLS connection to the metrics endpoint of an operator.
func connect(t *testing.T, o *cluster.Operator, trusted *x509.CertPool) error {
	t.Helper()
	metrics, err := url.Parse(o.MetricsURL())
	must(t, err)
	connection, err := tls.Dial("tcp", metrics.Host, &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	return connection.Close()
}
