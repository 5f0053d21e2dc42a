package main

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/observe"
)

// runnerImageVariable is an environment variable of ToolHive's operator. Its Deployment can have any name and any image.
const runnerImageVariable = "TOOLHIVE_RUNNER_IMAGE"

// graph is what ToolHive's operator leaves for an MCPServer. Objects that do not exist are nil.
type graph struct {
	server *v1beta1.MCPServer
	// proxy is the Deployment of the proxy. When its pod starts, it applies the StatefulSet with force.
	proxy *appsv1.Deployment
	set   *appsv1.StatefulSet
	// headless and clients are the Services that this operator also has.
	headless, clients *corev1.Service
	// others are the objects that nothing needs without the proxy.
	others []client.Object
}

// readGraph reads what ToolHive's operator leaves for an MCPServer.
func readGraph(ctx context.Context, c client.Client, server *v1beta1.MCPServer) (*graph, error) {
	g := &graph{server: server, proxy: &appsv1.Deployment{}, set: &appsv1.StatefulSet{}, headless: &corev1.Service{}, clients: &corev1.Service{}}
	name := server.Name
	var err error
	if g.proxy, err = find(ctx, c, server, name, g.proxy); err != nil {
		return nil, err
	}
	if g.set, err = find(ctx, c, server, applyconfigs.StatefulSetName(name), g.set); err != nil {
		return nil, err
	}
	if g.headless, err = find(ctx, c, server, applyconfigs.HeadlessServiceName(name), g.headless); err != nil {
		return nil, err
	}
	if g.clients, err = find(ctx, c, server, applyconfigs.ClientServiceName(name), g.clients); err != nil {
		return nil, err
	}
	for _, other := range []client.Object{
		named("mcp-"+name, &corev1.Service{}),
		named(name+"-runconfig", &corev1.ConfigMap{}),
		named(name+"-proxy-runner", &rbacv1.RoleBinding{}),
		named(name+"-proxy-runner", &rbacv1.Role{}),
		named(name+"-proxy-runner", &corev1.ServiceAccount{}),
		named(name+"-sa", &corev1.ServiceAccount{}),
	} {
		found, err := find(ctx, c, server, other.GetName(), other)
		if apierrors.IsForbidden(err) {
			continue // it is a leftover that the user could not delete either
		}
		if err != nil {
			return nil, err
		}
		if found != nil && g.isOfToolHive(found) {
			g.others = append(g.others, found)
		}
	}
	return g, nil
}

func named(name string, object client.Object) client.Object {
	object.SetName(name)
	return object
}

// find reads an object into which; it returns the zero value if the object is absent.
func find[O client.Object](ctx context.Context, c client.Client, server *v1beta1.MCPServer, name string, which O) (O, error) {
	var none O
	err := c.Get(ctx, client.ObjectKey{Namespace: server.Namespace, Name: name}, which)
	if apierrors.IsNotFound(err) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("reading %s: %w", textOf(named(name, which)), err)
	}
	return which, nil
}

// isOfToolHive reports whether ToolHive created an object for the MCPServer: the MCPServer or the StatefulSet controls it, or nothing controls it and it has
// the labels or a field manager of ToolHive. An object of somebody else can have the same name.
func (g *graph) isOfToolHive(object client.Object) bool {
	if metav1.IsControlledBy(object, g.server) {
		return true
	}
	if g.set != nil && metav1.IsControlledBy(object, g.set) {
		return g.isOfToolHive(g.set)
	}
	return metav1.GetControllerOf(object) == nil && observe.IsOfToolHive(object, g.server.Name)
}

// notAdopted is an object with the name of a child that the MCPServer does not get.
type notAdopted struct {
	Object string `json:"object"`
	Reason string `json:"reason"`
	// Advice is what the user can do, with the command.
	Advice string `json:"advice"`
}

// notAdopted returns the objects with the names of children that the MCPServer does not get.
func (g *graph) notAdopted() []notAdopted {
	var all []notAdopted
	for _, object := range g.adoptable() {
		if g.isOfToolHive(object) {
			continue
		}
		kind := strings.ToLower(kindOf(object))
		one := notAdopted{Object: textOf(object)}
		label := fmt.Sprintf("kubectl -n %s label %s %s --overwrite toolhive=true %s=%s", object.GetNamespace(), kind, object.GetName(), observe.ToolHiveNameLabel, g.server.Name)
		if controller := metav1.GetControllerOf(object); controller != nil {
			one.Reason = fmt.Sprintf("%s %q controls it", bounded(controller.Kind), bounded(controller.Name))
			one.Advice = fmt.Sprintf("Give the MCPServer another name, or remove the object together with its controller. To see who writes it, run: kubectl mcpserver owners %s/%s -n %s",
				kind, object.GetName(), object.GetNamespace())
		} else if name, has := object.GetLabels()[observe.ToolHiveNameLabel]; has {
			one.Reason = fmt.Sprintf("its label %s is %q", observe.ToolHiveNameLabel, bounded(name))
			one.Advice = "If it belongs to this MCPServer, run: " + label
		} else {
			one.Reason = "nothing shows that ToolHive created it: its field managers are " + managersText(object)
			one.Advice = "If it belongs to this MCPServer, run: " + label
		}
		all = append(all, one)
	}
	return all
}

// adoptable returns the StatefulSet and the Services that this operator also has, if the MCPServer does not control them.
func (g *graph) adoptable() []client.Object {
	var all []client.Object
	if g.set != nil && !metav1.IsControlledBy(g.set, g.server) {
		all = append(all, g.set)
	}
	for _, service := range []*corev1.Service{g.headless, g.clients} {
		if service != nil && !metav1.IsControlledBy(service, g.server) {
			all = append(all, service)
		}
	}
	return all
}

// isDeleted reports whether the MCPServer is being deleted.
func (g *graph) isDeleted() bool { return !g.server.DeletionTimestamp.IsZero() }

// toAdopt returns the objects whose controller must become the MCPServer. If it is being deleted, they are then deleted with it.
func (g *graph) toAdopt() []client.Object {
	return slices.DeleteFunc(g.adoptable(), func(object client.Object) bool { return !g.isOfToolHive(object) })
}

// hasFinalizer reports whether the MCPServer has the finalizer of ToolHive's operator.
func (g *graph) hasFinalizer() bool {
	return slices.Contains(g.server.Finalizers, v1beta1.ToolHiveFinalizer)
}

// proxyRuns reports whether the proxy runs, or would.
func (g *graph) proxyRuns() bool {
	return g.proxy != nil && g.isOfToolHive(g.proxy) && runs(g.proxy)
}

// leftovers returns the objects that nothing needs without the proxy, and those that the pods of the StatefulSet still need.
func (g *graph) leftovers() (free, needed []client.Object) {
	if g.proxy != nil && g.isOfToolHive(g.proxy) {
		free = append(free, g.proxy)
	}
	for _, object := range g.others {
		if account, is := object.(*corev1.ServiceAccount); is && g.mayUse(account.Name) {
			needed = append(needed, object)
		} else {
			free = append(free, object)
		}
	}
	return free, needed
}

// mayUse reports whether pods may use a ServiceAccount: the StatefulSet names it, or its last rollout is not complete.
func (g *graph) mayUse(account string) bool {
	return g.set != nil && (g.set.Spec.Template.Spec.ServiceAccountName == account ||
		g.set.Status.ObservedGeneration < g.set.Generation || g.set.Status.CurrentRevision != g.set.Status.UpdateRevision) ||
		g.server.Spec.ServiceAccount != nil && *g.server.Spec.ServiceAccount == account
}

// ownedBy returns the owner references of an object with the MCPServer as the controller, instead of any other.
func ownedBy(object client.Object, server *v1beta1.MCPServer) []metav1.OwnerReference {
	references := slices.DeleteFunc(slices.Clone(object.GetOwnerReferences()), func(reference metav1.OwnerReference) bool {
		return ptr.Deref(reference.Controller, false)
	})
	return append(references, *metav1.NewControllerRef(server, v1beta1.GroupVersion.WithKind("MCPServer")))
}

// runningOperators returns the Deployments of ToolHive's operator that run. Forbidden is true if the user may not list the Deployments of all
// namespaces.
func runningOperators(ctx context.Context, c client.Client) (running []appsv1.Deployment, forbidden bool, err error) {
	var list appsv1.DeploymentList
	err = c.List(ctx, &list)
	if apierrors.IsForbidden(err) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("looking for ToolHive's operator: %w", err)
	}
	for i := range list.Items {
		deployment := &list.Items[i]
		if isToolHiveOperator(deployment) && runs(deployment) {
			running = append(running, *deployment)
		}
	}
	return running, false, nil
}

// runs reports whether a Deployment has pods, or would. Kubernetes counts pods that are being deleted apart.
func runs(deployment *appsv1.Deployment) bool {
	status := deployment.Status
	return ptr.Deref(deployment.Spec.Replicas, 1) > 0 || status.Replicas > 0 || ptr.Deref(status.TerminatingReplicas, 0) > 0
}

func isToolHiveOperator(deployment *appsv1.Deployment) bool {
	return slices.ContainsFunc(deployment.Spec.Template.Spec.Containers, func(container corev1.Container) bool {
		return slices.ContainsFunc(container.Env, func(variable corev1.EnvVar) bool { return variable.Name == runnerImageVariable })
	})
}

// textOf returns the kind and the name of an object.
func textOf(object client.Object) string {
	return fmt.Sprintf("%s %q", kindOf(object), object.GetName())
}

func kindOf(object client.Object) string {
	// An object of a Go type has no kind.
	return cmp.Or(object.GetObjectKind().GroupVersionKind().Kind, reflect.TypeOf(object).Elem().Name())
}
