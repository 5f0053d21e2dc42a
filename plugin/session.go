package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/plan"
)

// fieldManager is the field manager of what the plugin writes.
const fieldManager = "kubectl-mcpserver"

// session is what all commands share: the streams and the flags.
type session struct {
	genericiooptions.IOStreams
	flags  *genericclioptions.ConfigFlags
	output string
}

// connection is a connection to the API server.
type connection struct {
	client.WithWatch
	config *rest.Config
	// namespace is the namespace of the flags or of the context.
	namespace string
	// settings are those of the operator, as far as they are known: see checkVersion.
	settings plan.Settings
}

func (s *session) connect() (*connection, error) {
	config, err := s.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("loading the kubeconfig: %w", err)
	}
	config.UserAgent = "kubectl-mcpserver/" + version
	config.QPS = -1 // API Priority and Fairness limits the requests
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("finding the namespace: %w", err)
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1beta1.AddToScheme(scheme))
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	return &connection{WithWatch: c, config: config, namespace: namespace}, nil
}

// checkServed fails if the cluster has an older CRD, which does not serve the version that the operator and this plugin write.
func (c *connection) checkServed() error {
	_, err := c.RESTMapper().RESTMapping(serverKind, v1beta1.GroupVersion.Version)
	if apimeta.IsNoMatchError(err) {
		return fmt.Errorf("the cluster does not serve MCPServers in version %s, because this operator's CRD is not installed: replace the CRD first, as in step 2 of docs/manifests.md. "+
			"kubectl mcpserver audit works before", v1beta1.GroupVersion.Version)
	}
	if err != nil {
		return fmt.Errorf("finding the versions of %s: %w", serverKind, err)
	}
	return nil
}

// server reads an MCPServer of the namespace.
func (c *connection) server(cmd *cobra.Command, name string) (*v1beta1.MCPServer, error) {
	if err := c.checkServed(); err != nil {
		return nil, err
	}
	server := &v1beta1.MCPServer{}
	if err := c.Get(cmd.Context(), client.ObjectKey{Namespace: c.namespace, Name: strings.TrimPrefix(name, "mcpserver/")}, server); err != nil {
		return nil, fmt.Errorf("reading the MCPServer: %w", err)
	}
	return server, nil
}

// print prints a result as the flag -o asks for. Text returns it as text.
func (s *session) print(result any, text func() string) error {
	var out []byte
	var err error
	switch s.output {
	case "":
		out = []byte(text())
	case "json":
		if out, err = json.MarshalIndent(result, "", "  "); err == nil {
			out = append(out, '\n')
		}
	case "yaml":
		out, err = yaml.Marshal(result)
	}
	if err == nil {
		_, err = s.Out.Write(out)
	}
	if err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// completeServers completes the name of an MCPServer. With --all-namespaces, a command takes no name.
func (s *session) completeServers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if all := cmd.Flags().Lookup("all-namespaces"); len(args) > 0 || (all != nil && all.Changed) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c, err := s.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	servers, err := c.storedServers(cmd, nil, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, server := range servers {
		names = append(names, server.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// warn prints a line to the standard error.
func (s *session) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(s.ErrOut, format+"\n", args...)
}

// tableOf aligns the cells of rows, which are separated by tabs.
func tableOf(rows []string) string {
	text := &strings.Builder{}
	table := tabwriter.NewWriter(text, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(table, strings.Join(rows, "\n")) // a strings.Builder does not fail
	_ = table.Flush()
	return text.String()
}
