package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// namespaces is the number of namespaces across which the MCPServers are spread.
const namespaces = 10

// most limits the duration of each measurement.
const most = time.Hour

// parallel calls do for each number below n with several workers.
func parallel(ctx context.Context, workers, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range workers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := do(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// server returns the i-th MCPServer: a typical spec that results in five children.
func server(i int) *v1beta1.MCPServer {
	return &v1beta1.MCPServer{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("bench-%d", i%namespaces), Name: fmt.Sprintf("server-%05d", i),
			Labels: map[string]string{"team": "bench"},
		},
		Spec: v1beta1.MCPServerSpec{
			Image: "registry.example/mcp/time:1.0", Transport: v1beta1.TransportStreamableHTTP,
			Args: []string{"--verbose"},
			Env:  []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}, {Name: "REGION", Value: "north"}},
			Resources: &corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("32Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")},
			},
		},
	}
}

// createServers creates the MCPServers from first up to, but not including, last, and their namespaces.
func createServers(ctx context.Context, c *cluster.Cluster, first, last int) error {
	for i := range namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("bench-%d", i)}}
		if err := client.IgnoreAlreadyExists(c.Client.Create(ctx, namespace)); err != nil {
			return fmt.Errorf("creating a namespace: %w", err)
		}
	}
	return parallel(ctx, 8, last-first, func(ctx context.Context, i int) error {
		if err := c.Client.Create(ctx, server(first+i)); err != nil {
			return fmt.Errorf("creating an MCPServer: %w", err)
		}
		return nil
	})
}

// edit changes a field of the i-th MCPServer. The change modifies the StatefulSet but restarts no pod.
func edit(ctx context.Context, c *cluster.Cluster, i, value int) error {
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"minReadySeconds":%d}}`, value))
	if err := c.Client.Patch(ctx, server(i), patch, client.FieldOwner("bench")); err != nil {
		return fmt.Errorf("editing an MCPServer: %w", err)
	}
	return nil
}

// waitReady waits until n MCPServers, which are all that exist, are Ready.
func waitReady(ctx context.Context, c *cluster.Cluster, n int) error {
	var last int
	err := wait.PollUntilContextTimeout(ctx, 5*time.Second, most, true, func(ctx context.Context) (bool, error) {
		var servers v1beta1.MCPServerList
		if err := c.Client.List(ctx, &servers); err != nil {
			return false, err
		}
		last = 0
		for i := range servers.Items {
			if apimeta.IsStatusConditionTrue(servers.Items[i].Status.Conditions, v1beta1.ConditionReady) {
				last++
			}
		}
		return last == n && len(servers.Items) == n, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %d MCPServers to be Ready, %d are: %w", n, last, err)
	}
	return nil
}
