package keda

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
)

// The executables have the names that they have in KEDA's images: the field manager of a client that sets none is the name of its executable.
var (
	operatorProgram = filepath.Join(root, "bin", "keda", "keda")
	adapterProgram  = filepath.Join(root, "bin", "keda", "keda-adapter")
)

// account is the namespace and the name of KEDA's ServiceAccount.
const accountNamespace, account = "keda", "keda-operator"

// user is the name of KEDA in requests to the API server.
const user = "system:serviceaccount:" + accountNamespace + ":" + account

// processes are the running processes of KEDA.
type processes struct {
	dir     string // of the logs
	running []*exec.Cmd
}

// startKEDA installs the CRDs and the permissions of KEDA, and starts its two processes.
func startKEDA(ctx context.Context, c *cluster.Cluster) (keda *processes, err error) {
	if err := install(ctx, c); err != nil {
		return nil, err
	}
	keda = &processes{}
	if keda.dir, err = os.MkdirTemp("", "keda-"); err != nil {
		return nil, err
	}
	if err := keda.start(ctx, c); err != nil {
		return nil, errors.Join(err, keda.stop(true))
	}
	return keda, nil
}

// install installs from the config folder of KEDA's module what its processes need, without its Deployments.
func install(ctx context.Context, c *cluster.Cluster) error {
	download := exec.CommandContext(ctx, "go", "mod", "download", "-json", "github.com/kedacore/keda/v2")
	download.Dir = "components"
	out, err := download.Output()
	if err != nil {
		return fmt.Errorf("looking for KEDA's module: %w: %s", err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return fmt.Errorf("looking for KEDA's module: %w", err)
	}
	config := filepath.Join(module.Dir, "config")
	for _, part := range [][]string{
		{"-k", "crd"}, {"-f", "general/namespace.yaml"}, {"-f", "service_account/service_account.yaml"},
		{"-f", "rbac/role.yaml"}, {"-f", "rbac/role_binding.yaml"}, {"-f", "metrics-server/role.yaml"}, {"-f", "metrics-server/role_binding.yaml"},
	} {
		if _, err := c.Kubectl(ctx, "apply", "--server-side", part[0], filepath.Join(config, part[1])); err != nil {
			return err
		}
	}
	return c.WaitForCRD(ctx, "scaledobjects.keda.sh")
}

func (p *processes) start(ctx context.Context, c *cluster.Cluster) error {
	kubeconfig, err := p.writeKubeconfig(ctx, c)
	if err != nil {
		return err
	}
	if err := p.writeCertificates(); err != nil {
		return err
	}
	ports, err := controlplane.FreePorts(5)
	if err != nil {
		return err
	}
	probes, metrics := "127.0.0.1:"+ports[0], "localhost:"+ports[1]
	err = p.run(operatorProgram, "--kubeconfig="+kubeconfig, "--health-probe-bind-address="+probes, "--metrics-bind-address=127.0.0.1:"+ports[2],
		"--metrics-service-bind-address="+metrics, "--cert-dir="+p.dir)
	if err != nil {
		return err
	}
	err = cluster.Eventually(ctx, "KEDA to be ready", func(ctx context.Context) (string, bool) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+probes+"/readyz", nil)
		if err != nil {
			return err.Error(), false
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err.Error(), false
		}
		defer response.Body.Close()
		return response.Status, response.StatusCode == http.StatusOK
	})
	if err != nil {
		return err
	}
	err = p.run(adapterProgram, "--kubeconfig="+kubeconfig, "--lister-kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig,
		"--authorization-kubeconfig="+kubeconfig, "--metrics-service-address="+metrics, "--port="+ports[3], "--bind-address=127.0.0.1",
		"--secure-port="+ports[4], "--cert-dir="+p.dir, "--tls-cert-file="+filepath.Join(p.dir, "tls.crt"),
		"--tls-private-key-file="+filepath.Join(p.dir, "tls.key"))
	if err != nil {
		return err
	}
	return c.RegisterMetricsAPI(ctx, "external", "v1beta1", ports[4])
}

// writeKubeconfig writes the credentials of KEDA's ServiceAccount, and returns the path of the file.
func (p *processes) writeKubeconfig(ctx context.Context, c *cluster.Cluster) (string, error) {
	config, err := c.ConfigOf(ctx, accountNamespace, account)
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs(filepath.Join(p.dir, "kubeconfig"))
	if err != nil {
		return "", err
	}
	return path, controlplane.WriteKubeconfig(path, config)
}

// writeCertificates writes one certificate for the two processes, which verify each other. It is its own authority.
func (p *processes) writeCertificates() error {
	encodedKey, err := keyutil.MakeEllipticPrivateKeyPEM()
	if err != nil {
		return err
	}
	key, err := keyutil.ParsePrivateKeyPEM(encodedKey)
	if err != nil {
		return err
	}
	certificate, err := cert.NewSelfSignedCACert(cert.Config{CommonName: "localhost"}, key.(crypto.Signer))
	if err != nil {
		return err
	}
	encoded, err := cert.EncodeCertificates(certificate)
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"ca.crt": encoded, "tls.crt": encoded, "tls.key": encodedKey} {
		if err := os.WriteFile(filepath.Join(p.dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// run starts a process. Its output goes to a file.
func (p *processes) run(program string, args ...string) error {
	log, err := os.Create(filepath.Join(p.dir, filepath.Base(program)+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.Command(program, args...)
	command.Env = append(os.Environ(), "POD_NAMESPACE="+accountNamespace, "KEDA_CLUSTER_OBJECT_NAMESPACE="+accountNamespace, "WATCH_NAMESPACE=")
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		return err
	}
	p.running = append(p.running, command)
	return nil
}

// stop ends the processes. If failed is set, it keeps the logs and prints their path.
func (p *processes) stop(failed bool) error {
	var errs []error
	for _, command := range p.running {
		if err := command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
		_ = command.Wait() // it was killed
	}
	if failed {
		fmt.Fprintf(os.Stderr, "The logs of KEDA are in %s\n", p.dir)
	} else {
		errs = append(errs, os.RemoveAll(p.dir))
	}
	return errors.Join(errs...)
}
