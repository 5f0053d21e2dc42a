package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	networkingv1ac "k8s.io/client-go/applyconfigurations/networking/v1"
	policyv1ac "k8s.io/client-go/applyconfigurations/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1alpha1"
	"mcpserver-operator/reconcile/ownership"
)

// apply brings every child that is ours to what the MCPServer asks for. A child that cannot be written does not keep
// the others from being written. A child of which the cache shows another version is no error: the pass is stale. What
// the pods refer to comes before the StatefulSet, and what they no longer refer to goes after it.
func (r *Reconciler) apply(ctx context.Context, p *pass) error {
	clients, headless := applyconfigs.ClientService(p.server, p.fixed), applyconfigs.HeadlessService(p.server, p.fixed)
	var failed []error
	for _, child := range []func() error{
		func() error {
			return applyChild(ctx, r, p, applyconfigs.ServiceAccount(p.server), p.children.serviceAccount, corev1ac.ExtractServiceAccount)
		},
		func() error {
			return r.applyService(ctx, p, headless, p.children.headlessService)
		},
		func() error {
			return r.applyService(ctx, p, clients, p.children.clientService)
		},
		func() error {
			return applyChild(ctx, r, p, applyconfigs.NetworkPolicy(p.server, p.fixed), p.children.networkPolicy,
				networkingv1ac.ExtractNetworkPolicy)
		},
		func() error {
			return applyChild(ctx, r, p, applyconfigs.PodDisruptionBudget(p.server, p.fixed), p.children.podDisruptionBudget,
				policyv1ac.ExtractPodDisruptionBudget)
		},
		func() error { return r.applyStatefulSet(ctx, p, r.clusterFor(p, clients, headless)) },
		func() error { return r.dropServiceAccount(ctx, p) },
		func() error {
			return dropChild(ctx, r, p, applyconfigs.WantsNetworkPolicy(p.server), p.children.networkPolicy)
		},
		func() error {
			return dropChild(ctx, r, p, applyconfigs.WantsPodDisruptionBudget(p.server), p.children.podDisruptionBudget)
		},
	} {
		if err := child(); isStale(err) {
			p.stale = true
		} else {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// clusterFor completes the cluster with the IP family of the Services, which are applied before. Where the Service for clients
// is neither there nor could be created, the headless Service tells what the cluster chooses: pods whose Service was
// deleted do not restart because an admission webhook is down as well.
func (r *Reconciler) clusterFor(p *pass, clients, headless *corev1ac.ServiceApplyConfiguration) applyconfigs.Cluster {
	cluster := r.Cluster
	cluster.IPFamily = cmp.Or(
		applyconfigs.FirstIPFamily(p.children.clientService, clients),
		applyconfigs.FirstIPFamily(p.children.headlessService, headless),
	)
	return cluster
}

func (r *Reconciler) applyService(
	ctx context.Context, p *pass, want *corev1ac.ServiceApplyConfiguration, live *corev1.Service,
) error {
	if live != nil && !isGoing(live) {
		done, err := r.renumberPort(ctx, p, *want.Kind, live, servicePort(live, applyconfigs.ProxyPort(p.server)))
		if done || err != nil {
			return err
		}
	}
	return applyChild(ctx, r, p, want, live, corev1ac.ExtractService)
}

// dropServiceAccount deletes the ServiceAccount that was made for the MCPServer when it is no longer wanted and no pod runs,
// or may be created, as it. The cache of the StatefulSet may be behind, and without its account no pod is created. The pods of a
// deleted StatefulSet may run as it as well.
func (r *Reconciler) dropServiceAccount(ctx context.Context, p *pass) error {
	if applyconfigs.WantsServiceAccount(p.server) || p.children.serviceAccount == nil || len(p.children.stray) > 0 {
		return nil
	}
	set := &appsv1.StatefulSet{}
	key := client.ObjectKey{Namespace: p.server.Namespace, Name: applyconfigs.StatefulSetName(p.server.Name)}
	if err := client.IgnoreNotFound(r.APIReader.Get(ctx, key, set)); err != nil {
		return fmt.Errorf("looking whether StatefulSet %q uses ServiceAccount %q: %w", key.Name, p.children.serviceAccount.Name, err)
	}
	return dropChild(ctx, r, p, usesServiceAccount(set, p.children.serviceAccount.Name), p.children.serviceAccount)
}

// usesServiceAccount reports whether pods run, or may be created, as a ServiceAccount: the StatefulSet names it, or is still
// rolling out from a template that may have.
func usesServiceAccount(set *appsv1.StatefulSet, name string) bool {
	return set.Spec.Template.Spec.ServiceAccountName == name ||
		set.Status.ObservedGeneration < set.Generation || set.Status.CurrentRevision != set.Status.UpdateRevision
}

// applyStatefulSet carries out the verdict about the scale, and applies everything else with it.
func (r *Reconciler) applyStatefulSet(ctx context.Context, p *pass, cluster applyconfigs.Cluster) error {
	live := p.children.statefulSet
	if p.refused(statefulSetKind.Kind, applyconfigs.StatefulSetName(p.server.Name)) || isGoing(live) {
		return nil
	}
	want, err := applyconfigs.StatefulSet(p.server, p.verdict.Apply, p.fixed, cluster)
	if err != nil {
		return &invalidSpecError{err}
	}
	if live != nil {
		if migrated, err := r.migrate(ctx, p, live, replicasPath); migrated || err != nil {
			return err
		}
		done, err := r.renumberPort(ctx, p, statefulSetKind.Kind, live, containerPort(live, applyconfigs.ContainerPort(p.server)))
		if done || err != nil {
			return err
		}
	}
	if live == nil || p.verdict.writesScale() || recordDiffers(live, p.verdict.Apply.Declared) {
		if err := r.confirm(ctx, p.server); err != nil {
			return err
		}
		if err := r.forgetDeclaration(ctx, p.server); err != nil {
			return err
		}
	}
	if len(p.children.stray) > 0 {
		return nil
	}
	var wrote bool
	if p.verdict.Action == scaleRelease {
		// The apply that leaves the scale out comes with the next pass, when the claim is seen to be gone.
		wrote, err = true, r.release(ctx, live, p.server.Spec.Replicas == nil)
	} else {
		wrote, err = converge(ctx, r, p, want, live, appsv1ac.ExtractStatefulSet)
	}
	if err != nil {
		return err
	}
	p.wrote = p.wrote || wrote
	p.wroteStatefulSet = wrote
	if !wrote || !p.verdict.writesScale() {
		return nil
	}
	logf.FromContext(ctx).Info("Carried out a decision about the scale", "action", p.verdict.Action, "reason", p.verdict.Reason)
	if p.server.Status.Scale == nil {
		r.recordScaleWrite(p, nil)
		return nil // the first one: there is nothing that could be forgotten
	}
	status := *p.server.Status.DeepCopy()
	status.Scale = scaleAfterWrite(p)
	r.recordScaleWrite(p, status.Scale)
	return r.writeStatus(ctx, p.server, status)
}

// forgetDeclaration takes a declaration that is gone out of the status before its record on the StatefulSet goes. The status
// counts when there is no such record: the same number, declared again before this pass could report, would be taken for
// carried out.
func (r *Reconciler) forgetDeclaration(ctx context.Context, server *v1alpha1.MCPServer) error {
	if server.Spec.Replicas != nil || server.Status.Scale == nil {
		return nil
	}
	status := *server.Status.DeepCopy()
	status.Scale.DeclaredReplicas = nil
	return r.writeStatus(ctx, server, status)
}

// recordDiffers reports whether an apply would change the annotation that records the declaration.
func recordDiffers(live *appsv1.StatefulSet, declared *int32) bool {
	record, recorded := live.Annotations[v1alpha1.DeclaredReplicasAnnotation]
	if declared == nil {
		return recorded
	}
	return record != strconv.FormatInt(int64(*declared), 10)
}

// confirm fails with a conflict when the MCPServer, its status included, is not what the cache shows. Who decides the
// scale, and the record of it, are not changed on the word of a cache: after a change of the leader it can be older than
// what was already carried out.
func (r *Reconciler) confirm(ctx context.Context, cached *v1alpha1.MCPServer) error {
	current := &v1alpha1.MCPServer{}
	err := r.APIReader.Get(ctx, client.ObjectKeyFromObject(cached), current)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("reading the MCPServer again: %w", err)
	}
	if current.UID == cached.UID && current.ResourceVersion == cached.ResourceVersion {
		return nil
	}
	return staleCache(cached.Name)
}

// invalidSpecError is something in the spec of an MCPServer that the schema of the CRD cannot tell.
type invalidSpecError struct{ error }

func (e *invalidSpecError) Unwrap() error { return e.error }

// release gives up the claim on the scale without touching its value. With annotation it also takes the record of the
// declaration away, which goes with the declaration.
func (r *Reconciler) release(ctx context.Context, set *appsv1.StatefulSet, annotation bool) error {
	paths := []fieldpath.Path{replicasPath}
	if annotation {
		paths = append(paths, annotationPath)
	}
	patch, err := ownership.Release(set, self, paths...)
	if err != nil {
		return err
	}
	if _, found := set.Annotations[v1alpha1.DeclaredReplicasAnnotation]; found && annotation {
		patch = append(patch, ownership.Operation{
			Op:   "remove",
			Path: "/metadata/annotations/" + strings.ReplaceAll(v1alpha1.DeclaredReplicasAnnotation, "/", "~1"),
		})
	}
	if err := r.patch(ctx, set, patch); err != nil {
		return fmt.Errorf("releasing the scale of StatefulSet %q: %w", set.Name, err)
	}
	return nil
}
