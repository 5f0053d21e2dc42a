package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/tests/cluster"
)

// adminUser is the user name of the raw writer at the API server.
const adminUser = "admin"

// throughput measures the time to create all children of existing MCPServers, by the raw writer and by the operator. Each runs on a new
// control plane without controllers, which would use CPU time.
func throughput(ctx context.Context, o options, g *growth) error {
	title("All children of MCPServers")
	header("MCPServers", "writer", "first to last child", "MCPServers per second", "× raw", "CPU per MCPServer: writer", "kube-apiserver")
	for _, n := range o.sizes {
		var raw, operator cost
		err := on(ctx, nil, func(c *cluster.Cluster) error {
			var err error
			raw, err = childrenBy(ctx, c, n, adminUser, func() (writer, error) {
				return writer{cpu: ownCPU(), stop: func() error { return nil }}, writeRaw(ctx, c, o)
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("the raw writer with %d: %w", n, err)
		}
		show := func(writer string, of cost) {
			row(n, writer, seconds(of.took), fmt.Sprintf("%.0f", float64(n)/of.took.Seconds()), times(of.took, raw.took), each(of.writer, n), each(of.apiServer, n))
		}
		show("raw", raw)

		err = on(ctx, nil, func(c *cluster.Cluster) error {
			var err error
			operator, err = childrenBy(ctx, c, n, cluster.OperatorUser, func() (writer, error) {
				op, err := startOperator(ctx, c, o)
				if err != nil {
					return writer{}, err
				}
				return writer{cpu: op.cpu, stop: op.Stop}, nil
			})
			return err
		})
		if err != nil {
			return fmt.Errorf("the operator with %d: %w", n, err)
		}
		show("operator", operator)
		g.add("all children by the raw writer, per MCPServer", n, each(raw.took, n))
		g.add("all children by the operator, per MCPServer", n, each(operator.took, n))
		g.add("all children, × raw", n, times(operator.took, raw.took))
	}
	return nil
}

// cost is what it takes to create all children.
type cost struct {
	// took is the time from the writer's first request for a child to the response to its last one.
	took time.Duration
	// writer and apiServer are the CPU time of the writer, including its start, and of kube-apiserver.
	writer, apiServer time.Duration
}

// writer is a running writer of children.
type writer struct {
	cpu  func(ctx context.Context) (time.Duration, error)
	stop func() error
}

// childrenBy creates n MCPServers, starts a writer, and waits until all StatefulSets exist. The StatefulSet is the last child that is
// written.
func childrenBy(ctx context.Context, c *cluster.Cluster, n int, user string, start func() (writer, error)) (of cost, err error) {
	if err := createServers(ctx, c, 0, n); err != nil {
		return of, err
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	sets := &metav1.PartialObjectMetadataList{}
	sets.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("StatefulSetList"))
	watching, err := c.Client.Watch(ctx, sets)
	if err != nil {
		return of, fmt.Errorf("watching the StatefulSets: %w", err)
	}
	defer watching.Stop()
	all := make(chan error, 1)
	go func() { all <- countAdded(ctx, watching, n) }() // start immediately, because the API server ends a watch that nobody reads
	mark, err := c.AuditMark()
	if err != nil {
		return of, err
	}
	apiServerBefore, err := apiServerCPU(ctx, c)
	if err != nil {
		return of, err
	}
	running, err := start()
	if err != nil {
		return of, err
	}
	if err := <-all; err != nil {
		return of, errors.Join(err, running.stop())
	}
	var used, usedByServer error
	of.writer, used = running.cpu(ctx)
	of.apiServer, usedByServer = apiServerCPU(ctx, c)
	if err := errors.Join(used, usedByServer, running.stop()); err != nil {
		return of, err
	}
	of.apiServer -= apiServerBefore
	of.took, err = childrenTook(c, mark, n, user)
	return of, err
}

// childrenTook returns the time from a user's first request for a child since a mark to the response to its last one.
func childrenTook(c *cluster.Cluster, mark int64, n int, user string) (time.Duration, error) {
	requests, err := c.RequestsSince(mark, user)
	if err != nil {
		return 0, err
	}
	var first, last time.Time
	children := 0
	for _, request := range requests {
		if !isChildWrite(request) {
			continue
		}
		children++
		if first.IsZero() || request.Time.Before(first) {
			first = request.Time
		}
		if request.Done.After(last) {
			last = request.Done
		}
	}
	if children < 5*n {
		return 0, fmt.Errorf("found %d writes of children, want at least 5 for each of %d MCPServers", children, n)
	}
	return last.Sub(first), nil
}

// countAdded returns when n objects have been added.
func countAdded(ctx context.Context, watching watch.Interface, n int) error {
	for there := 0; there < n; {
		select {
		case event, open := <-watching.ResultChan():
			if !open {
				return fmt.Errorf("the watch ended at %d of %d StatefulSets", there, n)
			}
			if event.Type == watch.Added {
				there++
			}
		case <-ctx.Done():
			return fmt.Errorf("%d of %d StatefulSets: %w", there, n, ctx.Err())
		}
	}
	return nil
}

// isChildWrite reports whether a successful request wrote a child. It ignores events and MCPServers.
func isChildWrite(r cluster.Request) bool {
	return r.IsWrite() && r.Code < 300 && r.Resource != "events" && r.Resource != "mcpservers"
}

// writeRaw applies the children of all MCPServers with the apply configurations that the operator would use.
func writeRaw(ctx context.Context, c *cluster.Cluster, o options) error {
	var servers v1beta1.MCPServerList
	if err := c.Client.List(ctx, &servers); err != nil {
		return fmt.Errorf("listing the MCPServers: %w", err)
	}
	return parallel(ctx, o.concurrency, len(servers.Items), func(ctx context.Context, i int) error {
		children, err := childrenOf(&servers.Items[i], o.cluster())
		if err != nil {
			return err
		}
		for _, child := range children {
			err := c.Client.Apply(ctx, child, client.FieldOwner(applyconfigs.FieldManager), client.ForceOwnership)
			if err != nil {
				return fmt.Errorf("applying a child: %w", err)
			}
		}
		return nil
	})
}

// childrenOf builds the children of an MCPServer of the benchmark, as the operator does in a cluster.
func childrenOf(server *v1beta1.MCPServer, in applyconfigs.Cluster) ([]runtime.ApplyConfiguration, error) {
	fixed, err := applyconfigs.FixedFor(server)
	if err != nil {
		return nil, err
	}
	set, err := applyconfigs.StatefulSet(server, applyconfigs.Scale{}, fixed, in, nil)
	if err != nil {
		return nil, err
	}
	return []runtime.ApplyConfiguration{
		applyconfigs.ServiceAccount(server),
		applyconfigs.HeadlessService(server, fixed),
		applyconfigs.ClientService(server, fixed, false),
		applyconfigs.PodDisruptionBudget(server, fixed),
		set,
	}, nil
}

// times formats a time as a multiple of another.
func times(took, other time.Duration) string {
	return fmt.Sprintf("%.2f", took.Seconds()/other.Seconds())
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
