// Command mcpserver-operator runs MCPServers as StatefulSets. It writes with server-side apply only.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	_ "golang.org/x/crypto/x509roots/fallback" // the image of the operator has no certificate authorities
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
	"mcpserver-operator/reconcile/registry"
)

// version is set by the linker: see the Makefile and deploy/image.
var version = "development"

// leaderElectionID is the name of the Lease for the leader election among the replicas of the operator.
const leaderElectionID = "mcpserver-operator.toolhive.stacklok.dev"

// gcPercent is the default of GOGC. Nearly all of the heap is caches, and an idle operator allocates little. A value below
// Go's own default of 100 therefore saves memory and costs little CPU.
const gcPercent = 40

type options struct {
	metricsAddress          string
	metricsCertificate      string
	probeAddress            string
	profileAddress          string
	leaderElect             bool
	leaderElectionNamespace string
	namespaces              string
	concurrency             int
	preview                 string
	updateTemplates         bool
	runnerImage             string
	imageLookup             bool
	registryCAs             string
	log                     zap.Options
}

func main() {
	var o options
	flag.StringVar(&o.metricsAddress, "metrics-bind-address", ":8443",
		"address of the metrics endpoint, over TLS and for authorized clients only; 0 turns it off")
	flag.StringVar(&o.metricsCertificate, "metrics-cert-path", "",
		"directory with the files tls.crt and tls.key of the metrics endpoint; the operator reloads them when they change; "+
			"if empty, the operator generates a self-signed certificate at each start")
	flag.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz; 0 turns them off")
	flag.StringVar(&o.profileAddress, "pprof-bind-address", "0",
		"address of Go profiles, in clear text and without authorization: use loopback only, such as 127.0.0.1:6060; 0 turns them off")
	flag.BoolVar(&o.leaderElect, "leader-elect", false, "act only while holding a lease; required if more than one replica runs")
	flag.StringVar(&o.leaderElectionNamespace, "leader-election-namespace", "",
		"namespace of the lease; if empty, the namespace of the operator's pod; required outside a cluster")
	flag.StringVar(&o.namespaces, "namespaces", "", "namespaces to watch, separated by commas; if empty, all namespaces")
	flag.IntVar(&o.concurrency, "concurrency", 4, "number of MCPServers of one namespace that are reconciled at the same time; must be at least 1; one further worker serves other namespaces")
	flag.StringVar(&o.preview, "preview", "",
		"NAMESPACE/NAME of an MCPServer: print what the operator would do to its children, with the reason, and exit; write nothing to the cluster")
	flag.BoolVar(&o.updateTemplates, "update-pod-templates", false,
		"apply the pod templates of this version at once to StatefulSets with a pod template of another version; this restarts pods")
	flag.StringVar(&o.runnerImage, "runner-image", "",
		"image of this operator, whose runner is put in front of each server that does not set spec.sessions.mode: Direct; if empty, pods get no runner")
	flag.BoolVar(&o.imageLookup, "image-lookup", true,
		"look up the command of a stdio server in the registry of its image if the MCPServer has none and the server gets a runner; "+
			"the credentials are those of the config.json in the directory that the environment variable DOCKER_CONFIG names")
	flag.StringVar(&o.registryCAs, "registry-ca-file", "",
		"file with further certificate authorities of registries, in PEM; those of the system, or else of Mozilla, are always trusted")
	o.log.BindFlags(flag.CommandLine)
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&o.log)))
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "mcpserver-operator:", err)
		os.Exit(1)
	}
}

// run runs the operator until it receives a signal to stop.
func run(o options) error {
	if o.concurrency < 1 {
		return fmt.Errorf("--concurrency is %d: it must be at least 1", o.concurrency)
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: all options are flags, see --help", flag.Arg(0))
	}
	if err := checkCertificate(o.metricsCertificate); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("loading the configuration of the API server: %w", err)
	}
	config.QPS = -1 // no client-side rate limit: API Priority and Fairness limits the requests
	config.UserAgent = "mcpserver-operator/" + version

	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1beta1.AddToScheme(scheme))

	discoverer, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("creating a discovery client: %w", err)
	}
	live, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	ctx := ctrl.SetupSignalHandler()
	var services client.Reader
	if watched(o.namespaces) == nil && o.preview == "" { // a preview runs with the permissions of the user, who may have none in other namespaces
		services = live
	}
	surroundings, err := observe.Cluster(ctx, discoverer, services)
	if err != nil {
		return err
	}
	surroundings.RunnerImage = o.runnerImage
	settings := plan.Settings{Cluster: surroundings, UpdateTemplates: o.updateTemplates}
	readImage, err := imageReader(o)
	if err != nil {
		return err
	}
	if o.preview != "" {
		return preview(ctx, &reconcile.Reconciler{Client: live, APIReader: live, Settings: settings, Now: time.Now, ReadImage: readImage}, o.preview)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache:  cache.Options{DefaultNamespaces: watched(o.namespaces), ByObject: observe.CachedObjects()},
		Metrics: metricsserver.Options{
			BindAddress:    o.metricsAddress,
			SecureServing:  true,
			CertDir:        o.metricsCertificate,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
			// HTTP/2 is off because of its denial-of-service vulnerabilities. Scrapers do not need it.
			TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
		},
		HealthProbeBindAddress:  o.probeAddress,
		PprofBindAddress:        o.profileAddress,
		LeaderElection:          o.leaderElect,
		LeaderElectionID:        leaderElectionID,
		LeaderElectionNamespace: o.leaderElectionNamespace,
		// The process exits right after the manager stops. It is therefore safe to release the lease early.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("creating the manager: %w", err)
	}
	reconciler := &reconcile.Reconciler{
		Client:    mgr.GetClient(),
		APIReader: mgr.GetAPIReader(),
		Recorder:  mgr.GetEventRecorder("mcpserver-operator"),
		Settings:  settings,
		Now:       time.Now,
		ReadImage: readImage,
	}
	if err := reconciler.SetupWithManager(ctx, mgr, o.concurrency); err != nil {
		return err
	}
	if err := errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("ping", healthz.Ping),
	); err != nil {
		return fmt.Errorf("adding the health checks: %w", err)
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running the manager: %w", err)
	}
	return nil
}

// checkCertificate fails if a file of the certificate is missing. Without this check, the metrics server would generate a self-signed
// certificate instead.
func checkCertificate(dir string) error {
	if dir == "" {
		return nil
	}
	for _, name := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("--metrics-cert-path is %q, which must have the files %s and %s: %w",
				dir, corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
		}
	}
	return nil
}

// imageReader returns the function that looks up images in their registries; nil if this is turned off.
func imageReader(o options) (func(context.Context, string) (registry.Image, error), error) {
	if !o.imageLookup || o.runnerImage == "" {
		return nil, nil
	}
	authorities, err := registryAuthorities(o.registryCAs)
	if err != nil {
		return nil, err
	}
	reader := &registry.Reader{Keychain: authn.DefaultKeychain, Roots: authorities}
	return reader.Read, nil
}

// registryAuthorities returns the certificate authorities of registries: those of the system, or else of Mozilla, and those in a file, unless
// its name is empty.
func registryAuthorities(file string) (*x509.CertPool, error) {
	authorities, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("reading the certificate authorities of the system: %w", err)
	}
	if file == "" {
		return authorities, nil
	}
	further, err := os.ReadFile(file) //nolint:gosec // the file that the admin names
	if err != nil {
		return nil, fmt.Errorf("reading --registry-ca-file: %w", err)
	}
	if !authorities.AppendCertsFromPEM(further) {
		return nil, fmt.Errorf("--registry-ca-file is %q, which has no certificate in PEM", file)
	}
	return authorities, nil
}

// preview prints what the next passes would do to the children of an MCPServer.
func preview(ctx context.Context, reconciler *reconcile.Reconciler, server string) error {
	namespace, name, found := strings.Cut(server, "/")
	if !found {
		return fmt.Errorf("--preview is %q: it must be NAMESPACE/NAME", server)
	}
	object := &v1beta1.MCPServer{}
	if err := reconciler.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, object); err != nil {
		return fmt.Errorf("reading the MCPServer: %w", err)
	}
	preview, err := reconciler.Preview(ctx, object)
	if err != nil {
		return err
	}
	return preview.Print(os.Stdout)
}

// watched parses the flag --namespaces for the cache. Nil means all namespaces.
func watched(namespaces string) map[string]cache.Config {
	watched := map[string]cache.Config{}
	for _, namespace := range strings.Split(namespaces, ",") {
		if namespace = strings.TrimSpace(namespace); namespace != "" {
			watched[namespace] = cache.Config{}
		}
	}
	if len(watched) == 0 {
		return nil
	}
	return watched
}
