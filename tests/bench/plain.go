package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	appsv1ac "k8s.io/client-go/applyconfigurations/apps/v1"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/tests/cluster"
)

// plainName is the name of what reactions are compared with, and of its field manager.
const plainName = "bench-plain"

// plainEdited is the object whose edits are answered without the operator.
func plainEdited() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: server(0).Namespace, Name: plainName}}
}

// plainReactions edits a ConfigMap, and answers each edit with an apply of a StatefulSet as soon as a watch shows it: what any
// operator has to do, and nothing else. It does so between the edits of MCPServers, not while the operator answers one: they
// would take each other's time.
func plainReactions(ctx context.Context, c *cluster.Cluster, edits, value int) error {
	if err := client.IgnoreAlreadyExists(c.Client.Create(ctx, plainEdited())); err != nil {
		return fmt.Errorf("creating what is edited: %w", err)
	}
	watching, err := c.Client.Watch(ctx, &corev1.ConfigMapList{}, client.InNamespace(plainEdited().Namespace),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", plainName)})
	if err != nil {
		return fmt.Errorf("watching what is edited: %w", err)
	}
	defer watching.Stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return answerEdits(ctx, c, watching, edits, value) })
	group.Go(func() error {
		if err := hold(ctx, time.Second/editRate/2); err != nil {
			return err
		}
		return atRate(ctx, edits, func(i int) error {
			patch := mergePatch(fmt.Sprintf(`{"data":{"edit":"%d"}}`, value*edits+i))
			if err := c.Client.Patch(ctx, plainEdited(), patch); err != nil {
				return fmt.Errorf("editing what is watched: %w", err)
			}
			return nil
		})
	})
	return group.Wait()
}

// answerEdits applies once for each edit that a watch shows.
func answerEdits(ctx context.Context, c *cluster.Cluster, watching watch.Interface, edits, value int) error {
	for answered := 0; answered < edits; {
		select {
		case event, open := <-watching.ResultChan():
			if !open {
				return fmt.Errorf("the watch ended at %d of %d edits", answered, edits)
			}
			if event.Type != watch.Modified {
				continue
			}
			if err := plainApply(ctx, c, value*edits+answered); err != nil {
				return err
			}
			answered++
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// plainApply applies, in the way of the operator, a StatefulSet without pods that nothing else changes.
func plainApply(ctx context.Context, c *cluster.Cluster, value int) error {
	labels := map[string]string{"app": plainName}
	set := appsv1ac.StatefulSet(plainName, plainEdited().Namespace).WithSpec(appsv1ac.StatefulSetSpec().
		WithReplicas(0).
		WithMinReadySeconds(int32(value)).
		WithSelector(metav1ac.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(corev1ac.PodTemplateSpec().WithLabels(labels).WithSpec(corev1ac.PodSpec().
			WithContainers(corev1ac.Container().WithName("mcp").WithImage("registry.example/mcp/time:1.0")))))
	if err := c.Client.Apply(ctx, set, client.FieldOwner(plainName), client.ForceOwnership); err != nil {
		return fmt.Errorf("applying without the operator: %w", err)
	}
	return nil
}

// plainReactionsSince returns the edits of the ConfigMap and the applies that answer them. They are one after the other.
func plainReactionsSince(c *cluster.Cluster, mark int64, want int) ([]reacted, error) {
	requests, err := c.RequestsSince(mark, adminUser)
	if err != nil {
		return nil, err
	}
	var edits, writes []cluster.Request
	for _, request := range requests {
		switch {
		case request.Verb != "patch" || request.Name != plainName:
		case request.Resource == "configmaps":
			edits = append(edits, request)
		case request.Resource == "statefulsets":
			writes = append(writes, request)
		}
	}
	if len(edits) != want || len(writes) != want {
		return nil, fmt.Errorf("%d plain edits and %d answers in the audit log, wanted %d of each", len(edits), len(writes), want)
	}
	var reactions []reacted
	for i := range edits {
		reactions = append(reactions, reacted{edit: edits[i], write: writes[i]})
	}
	return reactions, nil
}
