package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// class is what the operator does with a field of ToolHive's API: see docs/manifests.md.
type class string

const (
	refused  class = "refused"
	noEffect class = "no effect"
	changed  class = "changed"
	unknown  class = "unknown"
)

// finding is a field of a stored MCPServer that the operator does not carry out as ToolHive's operator does.
type finding struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Field     string `json:"field"`
	Class     class  `json:"class"`
	Note      string `json:"note"`
}

func newAudit(s *session) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "audit [NAME]",
		Short: "List the fields of stored MCPServers that the operator refuses, ignores or carries out differently",
		Long: "Lists the fields of stored MCPServers that this operator refuses, that have no effect, or that mean something else than in ToolHive. " +
			"Run it before you replace the CRD: it reads every version of the API that the cluster serves.",
		Example: "  kubectl mcpserver audit -A",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect()
			if err != nil {
				return err
			}
			servers, err := c.storedServers(cmd, args, all)
			if err != nil {
				return err
			}
			findings := []finding{}
			for _, server := range servers {
				findings = append(findings, auditOf(server)...)
			}
			if err := s.print(findings, func() string { return auditText(findings, len(servers)) }); err != nil || len(findings) == 0 {
				return err
			}
			return errFound
		},
		ValidArgsFunction: s.completeServers,
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "list the MCPServers of all namespaces")
	return cmd
}

// storedServers reads MCPServers in every version that the cluster serves: a version shows only the fields of its own schema.
func (c *connection) storedServers(cmd *cobra.Command, names []string, all bool) ([]*storedServer, error) {
	mappings, err := c.RESTMapper().RESTMappings(serverKind)
	if err != nil {
		return nil, fmt.Errorf("finding the versions of %s: %w", serverKind, err)
	}
	byName := map[types.NamespacedName]*storedServer{}
	for _, mapping := range mappings {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(mapping.GroupVersionKind)
		var options []client.ListOption
		if !all {
			options = append(options, client.InNamespace(c.namespace))
		}
		if err := c.List(cmd.Context(), list, options...); err != nil {
			return nil, fmt.Errorf("listing the MCPServers in version %s: %w", mapping.GroupVersionKind.Version, err)
		}
		for i := range list.Items {
			key := client.ObjectKeyFromObject(&list.Items[i])
			if len(names) > 0 && key.Name != names[0] {
				continue
			}
			if byName[key] == nil {
				byName[key] = &storedServer{NamespacedName: key}
			}
			byName[key].views = append(byName[key].views, list.Items[i].Object)
		}
	}
	var servers []*storedServer
	for _, server := range byName {
		servers = append(servers, server)
	}
	if len(names) > 0 && len(servers) == 0 {
		return nil, fmt.Errorf("there is no MCPServer %q in namespace %q", names[0], c.namespace)
	}
	slices.SortFunc(servers, func(a, b *storedServer) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return servers, nil
}

// storedServer is a stored MCPServer.
type storedServer struct {
	types.NamespacedName
	// views are its content in each version of the API.
	views []map[string]any
}

// auditOf returns the findings about an MCPServer, sorted by class and field.
func auditOf(server *storedServer) []finding {
	found := map[string]finding{}
	add := func(field string, class class, note string) {
		found[field] = finding{Namespace: server.Namespace, Name: server.Name, Field: field, Class: class, Note: note}
	}
	for _, view := range server.views {
		spec, _, _ := unstructured.NestedMap(view, "spec")
		var fields struct {
			v1beta1.IgnoredFields `json:",inline"`
			v1beta1.RefusedFields `json:",inline"`

			Audit           *v1beta1.Audit `json:"audit"`
			Replicas        *int32         `json:"replicas"`
			BackendReplicas *int32         `json:"backendReplicas"`
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(spec, &fields); err != nil {
			add("spec", refused, "cannot be read: "+bounded(err.Error()))
			continue
		}
		for _, field := range unknownFields(spec) {
			add("spec."+field, unknown, "this operator does not know the field, and its CRD drops it")
		}
		for _, name := range fields.RefusedNames() {
			add("spec."+name, refused, "it protects the server, and this operator cannot give the protection: see docs/manifests.md")
		}
		for _, name := range fields.IgnoredNames() {
			add("spec."+name, noEffect, "it is a setting of ToolHive's proxy")
		}
		if kind, _, _ := unstructured.NestedString(spec, "permissionProfile", "type"); kind == "configmap" {
			add("spec.permissionProfile.type", refused, "a profile in a ConfigMap is not supported")
		}
		if _, has, _ := unstructured.NestedMap(spec, "resourceOverrides", "proxyDeployment"); has {
			add("spec.resourceOverrides.proxyDeployment", noEffect, "it is a setting of ToolHive's proxy")
		}
		if isOfToolHive(view) { // otherwise, the values are meant for this operator
			if fields.Audit != nil && fields.Audit.Enabled {
				add("spec.audit", changed, "the runner writes the log, in another form than ToolHive's proxy: see docs/sessions.md")
			}
			auditReplicas(fields.Replicas, fields.BackendReplicas, add)
			if limits, note := limitsOfServer(spec); limits {
				add("spec.resources", changed, note)
			}
		}
	}
	var all []finding
	for _, one := range found {
		all = append(all, one)
	}
	order := []class{refused, unknown, changed, noEffect}
	slices.SortFunc(all, func(a, b finding) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Class), slices.Index(order, b.Class)), cmp.Compare(a.Field, b.Field))
	})
	return all
}

// unknownFields returns the paths in a spec that the API of this operator does not have.
func unknownFields(spec map[string]any) []string {
	err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(spec, &v1beta1.MCPServerSpec{}, true)
	strict, isStrict := runtime.AsStrictDecodingError(err)
	if !isStrict {
		return nil
	}
	var paths []string
	for _, one := range strict.Errors() {
		if _, quoted, found := strings.Cut(one.Error(), "unknown field "); found {
			if path, err := strconv.Unquote(quoted); err == nil {
				paths = append(paths, bounded(path))
			}
		}
	}
	return paths
}

// isOfToolHive reports whether an MCPServer has the finalizer of ToolHive's operator.
func isOfToolHive(view map[string]any) bool {
	finalizers, _, _ := unstructured.NestedStringSlice(view, "metadata", "finalizers")
	return slices.Contains(finalizers, v1beta1.ToolHiveFinalizer)
}

// auditReplicas adds the findings about the numbers of pods. ToolHive's operator scales its proxy to replicas, and the server to backendReplicas.
func auditReplicas(replicas, backend *int32, add func(field string, class class, note string)) {
	switch {
	case replicas == nil:
	case backend == nil:
		add("spec.replicas", changed, fmt.Sprintf("the operator scales the server to %d, not the proxy: remove the field to keep the scale", *replicas))
	case *replicas != *backend:
		add("spec.backendReplicas", refused, fmt.Sprintf("it is %d and differs from spec.replicas, %d, which is the number of pods of the server here, not of the proxy: "+
			"remove spec.replicas", *backend, *replicas))
	}
}

// limitsOfServer reports whether spec.resources, which are those of the proxy in ToolHive, would be those of the server.
func limitsOfServer(spec map[string]any) (bool, string) {
	limits, _, _ := unstructured.NestedMap(spec, "resources", "limits")
	if len(limits) == 0 {
		return false, ""
	}
	containers, _, _ := unstructured.NestedSlice(spec, "podTemplateSpec", "spec", "containers")
	for _, container := range containers {
		container, isObject := container.(map[string]any)
		if _, has := container["resources"]; isObject && has && container["name"] == applyconfigs.ContainerName {
			return false, ""
		}
	}
	var all []string
	for name, limit := range limits {
		all = append(all, bounded(fmt.Sprintf("%s: %v", name, limit))) // a quantity is a string or an integer, but ToolHive's CRD may accept anything
	}
	slices.Sort(all)
	return true, fmt.Sprintf("the limits %s of ToolHive's proxy become those of the server", strings.Join(all, ", "))
}

func auditText(findings []finding, servers int) string {
	if len(findings) == 0 {
		return fmt.Sprintf("%s: all fields are carried out.\n", count(servers, "MCPServer"))
	}
	rows := []string{"NAMESPACE\tNAME\tFIELD\tCLASS\tNOTE"}
	for _, f := range findings {
		rows = append(rows, strings.Join([]string{f.Namespace, f.Name, f.Field, string(f.Class), f.Note}, "\t"))
	}
	return tableOf(rows)
}

// count returns a number with a noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
