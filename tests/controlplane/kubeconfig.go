package controlplane

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfigFor issues a client certificate and writes NAME.kubeconfig. The kubeconfig uses the address of kube-apiserver
// inside the control plane's namespace.
func (cp *ControlPlane) kubeconfigFor(name, user string, groups ...string) (string, error) {
	return cp.kubeconfigAt(cp.address, name, user, groups...)
}

// kubeconfigAt is kubeconfigFor with a given address of kube-apiserver.
func (cp *ControlPlane) kubeconfigAt(address, name, user string, groups ...string) (string, error) {
	files, err := cp.authority.issue(name, user, groups...)
	if err != nil {
		return "", err
	}
	certPEM, err := os.ReadFile(files.cert)
	if err != nil {
		return "", fmt.Errorf("reading the certificate of %s: %w", user, err)
	}
	keyPEM, err := os.ReadFile(files.key)
	if err != nil {
		return "", fmt.Errorf("reading the key of %s: %w", user, err)
	}
	path := filepath.Join(cp.Dir, name+".kubeconfig")
	return path, WriteKubeconfig(path, &rest.Config{
		Host: address,
		TLSClientConfig: rest.TLSClientConfig{
			CAData: cp.authority.certPEM, CertData: certPEM, KeyData: keyPEM,
		},
	})
}

// WriteKubeconfig writes a file for kubectl --kubeconfig. The file contains the server of config and its credentials: the
// client certificate or the bearer token.
func WriteKubeconfig(path string, config *rest.Config) error {
	const name = "controlplane"
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server: config.Host, CertificateAuthorityData: config.CAData, CertificateAuthority: config.CAFile,
		}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{name: {
			ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken,
		}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig %s: %w", path, err)
	}
	return nil
}
