// Command mcpserver-operator runs MCPServers as StatefulSets, and writes with server-side apply only.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile"
	"mcpserver-operator/reconcile/observe"
	"mcpserver-operator/reconcile/plan"
)

// version is set by the linker (see the Makefile).
var version = "development"

// leaderElectionID names the Lease by which the replicas of the operator choose who acts.
const leaderElectionID = "mcpserver-operator.toolhive.stacklok.dev"

// gcPercent is GOGC, unless the environment sets it. Nearly all of the heap is the caches, and an operator that has nothing
// to do allocates nothing: less memory for more CPU is a good trade here, unlike in most programs.
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
	log                     zap.Options
}

func main() {
	var o options
	flag.StringVar(&o.metricsAddress, "metrics-bind-address", ":8443",
		"where metrics are served, over TLS and to authorized clients only; 0 for nowhere")
	flag.StringVar(&o.metricsCertificate, "metrics-cert-path", "",
		"directory with the files tls.crt and tls.key that metrics are served with, read again when they change; "+
			"empty for a certificate that the operator signs itself at each start")
	flag.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "where /healthz and /readyz are served; 0 for nowhere")
	flag.StringVar(&o.profileAddress, "pprof-bind-address", "0",
		"where profiles are served, in clear text and to anyone: for example 127.0.0.1:6060; 0 for nowhere")
	flag.BoolVar(&o.leaderElect, "leader-elect", false, "act only while holding a lease; needed when more than one replica runs")
	flag.StringVar(&o.leaderElectionNamespace, "leader-election-namespace", "",
		"namespace of the lease; empty for the namespace that the operator runs in")
	flag.StringVar(&o.namespaces, "namespaces", "", "namespaces to watch, separated by commas; empty for all")
	flag.IntVar(&o.concurrency, "concurrency", 4, "how many MCPServers are reconciled at a time, at least 1")
	flag.StringVar(&o.preview, "preview", "",
		"NAMESPACE/NAME of an MCPServer: print what the operator would do to its children and why, and exit; nothing is written")
	flag.BoolVar(&o.updateTemplates, "update-pod-templates", false,
		"apply the pod templates of this version at once, where an older version has made them: this restarts pods")
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

// run runs the operator until it is told to stop.
func run(o options) error {
	if o.concurrency < 1 {
		return fmt.Errorf("--concurrency is %d: it has to be at least 1", o.concurrency)
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: all options are flags, see --help", flag.Arg(0))
	}
	if err := checkCertificate(o.metricsCertificate); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	config.QPS = -1 // no client-side rate limit: the priority and fairness of the API server decides
	config.UserAgent = "mcpserver-operator/" + version

	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))

	discoverer, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return fmt.Errorf("making a discovery client: %w", err)
	}
	live, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	ctx := ctrl.SetupSignalHandler()
	var services client.Reader
	if watched(o.namespaces) == nil && o.preview == "" { // so does a preview, which runs with the permissions of whoever asks for it
		services = live
	}
	surroundings, err := discoverCluster(ctx, discoverer, services)
	if err != nil {
		return err
	}
	settings := plan.Settings{Cluster: surroundings, UpdateTemplates: o.updateTemplates}
	if o.preview != "" {
		return preview(ctx, live, settings, o.preview)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme,
		Cache:  cache.Options{DefaultNamespaces: watched(o.namespaces), ByObject: observe.CachedObjects()},
		Metrics: metricsserver.Options{
			BindAddress:    o.metricsAddress,
			SecureServing:  true,
			CertDir:        o.metricsCertificate,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
			// HTTP/2 is off for the sake of its denial-of-service history; a scrape does not need it.
			TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
		},
		HealthProbeBindAddress:  o.probeAddress,
		PprofBindAddress:        o.profileAddress,
		LeaderElection:          o.leaderElect,
		LeaderElectionID:        leaderElectionID,
		LeaderElectionNamespace: o.leaderElectionNamespace,
		// The process ends right after the manager, so that giving the lease up early is safe.
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	reconciler := &reconcile.Reconciler{
		Client:    mgr.GetClient(),
		APIReader: mgr.GetAPIReader(),
		Recorder:  mgr.GetEventRecorder("mcpserver-operator"),
		Settings:  settings,
		Now:       time.Now,
	}
	if err := reconciler.SetupWithManager(ctx, mgr, o.concurrency); err != nil {
		return err
	}
	if err := errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("ping", healthz.Ping),
	); err != nil {
		return fmt.Errorf("adding the probes: %w", err)
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("running: %w", err)
	}
	return nil
}

// checkCertificate reports what the metrics server would pass over: it signs a certificate itself where a file is missing.
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

// discoverCluster asks the API server what pods depend on. The operator does not start on a guess: it could run pods as a user
// that the cluster refuses, or have servers listen where nobody reaches them. Services is nil for an operator that may read only certain
// namespaces: it looks at the Service of each MCPServer instead.
func discoverCluster(ctx context.Context, discoverer discovery.ServerGroupsInterface, services client.Reader) (applyconfigs.Cluster, error) {
	groups, err := discoverer.ServerGroups()
	if err != nil {
		return applyconfigs.Cluster{}, fmt.Errorf("asking which API groups the cluster has, to tell whether it is OpenShift: %w", err)
	}
	cluster := applyconfigs.Cluster{
		AssignsUsers: slices.ContainsFunc(groups.Groups, func(group metav1.APIGroup) bool {
			return group.Name == applyconfigs.SecurityAPIGroup
		}),
	}
	if services == nil {
		return cluster, nil
	}
	// The Service of the API server itself has the family that Services get if they ask for none.
	kubernetes := &corev1.Service{}
	if err := services.Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}, kubernetes); err != nil {
		return applyconfigs.Cluster{}, fmt.Errorf("reading Service default/kubernetes, to tell which IP family the cluster prefers: %w", err)
	}
	if len(kubernetes.Spec.IPFamilies) > 0 {
		cluster.IPFamily = kubernetes.Spec.IPFamilies[0]
	}
	return cluster, nil
}

// preview prints what the next passes would do.
func preview(ctx context.Context, live client.Client, settings plan.Settings, server string) error {
	namespace, name, found := strings.Cut(server, "/")
	if !found {
		return fmt.Errorf("--preview is %q: it has to be NAMESPACE/NAME", server)
	}
	reconciler := &reconcile.Reconciler{Client: live, APIReader: live, Settings: settings, Now: time.Now}
	return reconciler.Preview(ctx, client.ObjectKey{Namespace: namespace, Name: name}, os.Stdout)
}

// watched turns the flag into what the cache takes; nil means all namespaces.
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
