package controlplane

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// validity is longer than any run of the control plane.
const validity = 7 * 24 * time.Hour

// authority is a certificate authority. It stores its files in a folder. A single authority signs the certificates of all
// clients, all servers and the front proxy of the aggregation layer.
type authority struct {
	dir     string
	key     crypto.Signer
	cert    *x509.Certificate
	certPEM []byte
}

// pair holds the paths of a certificate and its key.
type pair struct{ cert, key string }

func newAuthority(dir string) (*authority, error) {
	key, err := newKey(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	certificate, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "controlplane"}, key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate authority: %w", err)
	}
	a := &authority{dir: dir, key: key, cert: certificate}
	if a.certPEM, err = cert.EncodeCertificates(certificate); err != nil {
		return nil, fmt.Errorf("encoding the certificate authority: %w", err)
	}
	return a, cert.WriteCert(a.file(), a.certPEM)
}

// file returns the path of the authority's certificate.
func (a *authority) file() string { return filepath.Join(a.dir, "ca.crt") }

// issue signs a certificate that is valid for a client (with the given user and groups) and for a server. It writes the
// files NAME.crt and NAME.key.
func (a *authority) issue(name, user string, groups ...string) (pair, error) {
	files := pair{cert: filepath.Join(a.dir, name+".crt"), key: filepath.Join(a.dir, name+".key")}
	key, err := newKey(files.key)
	if err != nil {
		return pair{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return pair{}, fmt.Errorf("choosing a serial number: %w", err)
	}
	template := &x509.Certificate{
		Subject:      pkix.Name{CommonName: user, Organization: groups},
		SerialNumber: serial,
		NotBefore:    a.cert.NotBefore,
		NotAfter:     time.Now().Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		// Loopback, the first real node, and the "kubernetes" Service.
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(nodeAddress(1)), net.IPv4(10, 96, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return pair{}, fmt.Errorf("signing the certificate of %s: %w", user, err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, fmt.Errorf("parsing the certificate of %s: %w", user, err)
	}
	encoded, err := cert.EncodeCertificates(certificate)
	if err != nil {
		return pair{}, fmt.Errorf("encoding the certificate of %s: %w", user, err)
	}
	return files, cert.WriteCert(files.cert, encoded)
}

// newKey generates a private key and writes it to a file.
func newKey(path string) (crypto.Signer, error) {
	encoded, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	if err := os.WriteFile(path, encoded, 0o600); err != nil {
		return nil, fmt.Errorf("writing a key: %w", err)
	}
	parsed, err := keyutil.ParsePrivateKeyPEM(encoded)
	if err != nil {
		return nil, fmt.Errorf("parsing a key: %w", err)
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", parsed)
	}
	return signer, nil
}
