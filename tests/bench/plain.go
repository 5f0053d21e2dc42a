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

// plainName is the name of the plain program to which reactions are compared, and of its field manager.
const plainName = "bench-plain"

// plainEdited is the object whose edits the plain program answers.
func plainEdited() *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: server(0).Namespace, Name: plainName}}
}

// plainReactions edits a ConfigMap and applies a StatefulSet as soon as a watch reports each edit. This is the minimum that any operator
// has to do. It runs between the edits of MCPServers and not at the same time, because the two would slow each other down.
func plainReactions(ctx context.Context, c *cluster.Cluster, edits, value int) error {
	if err := client.IgnoreAlreadyExists(c.Client.Create(ctx, plainEdited())); err != nil {
		return fmt.Errorf("creating the edited ConfigMap: %w", err)
	}
	watching, err := c.Client.Watch(ctx, &corev1.ConfigMapList{}, client.InNamespace(plainEdited().Namespace),
		client.MatchingFieldsSelector{Selector: fields.OneTermEqualSelector("metadata.name", plainName)})
	if err != nil {
		return fmt.Errorf("watching the edited ConfigMap: %w", err)
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
				return fmt.Errorf("editing the watched ConfigMap: %w", err)
			}
			return nil
		})
	})
	return group.Wait()
}

// answerEdits applies once for each edit that a watch reports.
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

// plainApply applies a StatefulSet without pods, with the operator's method. Nothing else changes the StatefulSet.
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

// plainReactionsSince pairs each edit of the ConfigMap with the apply that answers it. Edits and applies alternate.
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
		return nil, fmt.Errorf("found %d plain edits and %d answers in the audit log, want %d of each", len(edits), len(writes), want)
	}
	var reactions []reacted
	for i := range edits {
		reactions = append(reactions, reacted{edit: edits[i], write: writes[i]})
	}
	return reactions, nil
}
