package reconcile

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
)

// cached is a cache with some objects. The fake client of controller-runtime needs a minute for 5,000 of them.
type cached struct {
	client.Reader
	servers []v1beta1.MCPServer
	sets    []appsv1.StatefulSet
}

func (c cached) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch list := list.(type) {
	case *v1beta1.MCPServerList:
		list.Items = c.servers
	case *appsv1.StatefulSetList:
		list.Items = c.sets
	default:
		return fmt.Errorf("no %T in this cache", list)
	}
	return nil
}

// collects fails unless the collector has exactly these samples of the named metrics.
func collects(t *testing.T, cache cached, wanted string, names ...string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(wanted) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector{cache: cache})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		if !slices.Contains(names, family.GetName()) {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", label.GetName(), label.GetValue()))
			}
			got = append(got, fmt.Sprintf("%s{%s} %v", family.GetName(), strings.Join(labels, ","), metric.GetGauge().GetValue()))
		}
	}
	slices.Sort(lines)
	slices.Sort(got)
	if !slices.Equal(got, lines) {
		t.Errorf("got\n%s\nwanted\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}

func serverNamed(name string, status v1beta1.MCPServerStatus) v1beta1.MCPServer {
	return v1beta1.MCPServer{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}, Status: status}
}

// healthy is the status of an MCPServer of generation 0 without a problem.
func healthy() v1beta1.MCPServerStatus {
	return v1beta1.MCPServerStatus{
		Ready: "1/1", ReadyReplicas: 1, Scale: &v1beta1.ScaleStatus{Replicas: 1, Owner: v1beta1.ScaleOwnerUnclaimed},
		Conditions: []metav1.Condition{{Type: v1beta1.ConditionReady, Status: metav1.ConditionTrue, Reason: "PodsReady"}},
	}
}

// TestTheMetricShowsThePresentOwnerOfEachScale verifies the metric of the owners. It shows kinds, because any writer can choose the name of its
// field manager.
func TestTheMetricShowsThePresentOwnerOfEachScale(t *testing.T) {
	cache := cached{servers: []v1beta1.MCPServer{serverNamed("new", v1beta1.MCPServerStatus{})}}
	for name, owner := range map[string]string{"a": "MCPServer", "b": "HorizontalPodAutoscaler/b", "c": "kubectl", "d": "drawn at random"} {
		cache.servers = append(cache.servers, serverNamed(name, v1beta1.MCPServerStatus{Scale: &v1beta1.ScaleStatus{Owner: owner}}))
	}
	collects(t, cache, `
		mcpserver_scale_owner{name="a",namespace="team",owner="MCPServer"} 1
		mcpserver_scale_owner{name="b",namespace="team",owner="HorizontalPodAutoscaler"} 1
		mcpserver_scale_owner{name="c",namespace="team",owner="kubectl"} 1
		mcpserver_scale_owner{name="d",namespace="team",owner="other"} 1
	`, "mcpserver_scale_owner")
}

// TestConditionsHaveMetricsOnlyWhileTheyAreNotNormal verifies that a healthy MCPServer has no series of mcpserver_condition.
func TestConditionsHaveMetricsOnlyWhileTheyAreNotNormal(t *testing.T) {
	stalled := healthy()
	stalled.Conditions = []metav1.Condition{
		{Type: v1beta1.ConditionReady, Status: metav1.ConditionFalse, Reason: "CommandUnknown"},
		{Type: v1beta1.ConditionStalled, Status: metav1.ConditionTrue, Reason: "CommandUnknown"},
		{Type: v1beta1.ConditionSuspended, Status: metav1.ConditionFalse, Reason: "Suspended"},
		{Type: v1beta1.ConditionUpdateAvailable, Status: metav1.ConditionTrue, Reason: "written by a stranger"},
		{Type: "OfAnotherClient", Status: metav1.ConditionTrue, Reason: "Anything"},
	}
	collects(t, cached{servers: []v1beta1.MCPServer{serverNamed("healthy", healthy()), serverNamed("stalled", stalled)}}, `
		mcpserver_condition{condition="Ready",name="stalled",namespace="team",reason="CommandUnknown",status="False"} 1
		mcpserver_condition{condition="Stalled",name="stalled",namespace="team",reason="CommandUnknown",status="True"} 1
		mcpserver_condition{condition="UpdateAvailable",name="stalled",namespace="team",reason="other",status="True"} 1
	`, "mcpserver_condition")
}

// TestTheMetricsShowReplicas verifies the numbers of pods. Ready pods that are being deleted do not count.
func TestTheMetricsShowReplicas(t *testing.T) {
	yielded := serverNamed("yielded", v1beta1.MCPServerStatus{
		Ready: "2/4", ReadyReplicas: 3, Scale: &v1beta1.ScaleStatus{Replicas: 4, Owner: "kubectl"},
	})
	yielded.Spec.Replicas = ptr.To[int32](3)
	zero := serverNamed("zero", v1beta1.MCPServerStatus{Ready: "0/0", Scale: &v1beta1.ScaleStatus{Owner: "MCPServer"}})
	zero.Spec.Replicas = ptr.To[int32](0)
	collects(t, cached{servers: []v1beta1.MCPServer{yielded, zero, serverNamed("new", v1beta1.MCPServerStatus{})}}, `
		mcpserver_replicas_declared{name="yielded",namespace="team"} 3
		mcpserver_replicas_asked{name="yielded",namespace="team"} 4
		mcpserver_replicas_ready{name="yielded",namespace="team"} 2
		mcpserver_replicas_declared{name="zero",namespace="team"} 0
		mcpserver_replicas_asked{name="zero",namespace="team"} 0
		mcpserver_replicas_ready{name="zero",namespace="team"} 0
	`, "mcpserver_replicas_declared", "mcpserver_replicas_asked", "mcpserver_replicas_ready")
}

// TestTheMetricShowsTheWritersOfAFight verifies that each kind of writer has one series, also if two writers are of the same kind, and none
// when the fight is over.
func TestTheMetricShowsTheWritersOfAFight(t *testing.T) {
	fight := func() v1beta1.MCPServerStatus {
		status := healthy()
		status.Scale.TakeBacks = &v1beta1.ScaleTakeBacks{From: "kubectl, drawn at random, drawn again", Count: 5}
		status.Conditions = append(status.Conditions, metav1.Condition{
			Type: v1beta1.ConditionScaleConflict, Status: metav1.ConditionTrue, Reason: "ScaleFight",
		})
		return status
	}
	over := fight()
	over.Conditions = healthy().Conditions
	collects(t, cached{servers: []v1beta1.MCPServer{serverNamed("fights", fight()), serverNamed("over", over)}}, `
		mcpserver_scale_fight{name="fights",namespace="team",writer="kubectl"} 1
		mcpserver_scale_fight{name="fights",namespace="team",writer="other"} 1
	`, "mcpserver_scale_fight")
}

// TestTheMetricShowsEditsThatAreNotProcessed verifies that a suspended MCPServer, whose edits wait on purpose, has no series.
func TestTheMetricShowsEditsThatAreNotProcessed(t *testing.T) {
	server := func(name string, generation, observed int64) v1beta1.MCPServer {
		server := serverNamed(name, v1beta1.MCPServerStatus{ObservedGeneration: observed})
		server.Generation = generation
		return server
	}
	suspended := server("suspended", 3, 1)
	suspended.Spec.Suspend = true
	collects(t, cached{servers: []v1beta1.MCPServer{server("current", 2, 2), server("behind", 3, 1), server("new", 1, -1), suspended}}, `
		mcpserver_pending_generations{name="behind",namespace="team"} 2
		mcpserver_pending_generations{name="new",namespace="team"} 1
	`, "mcpserver_pending_generations")
}

// TestTheMetricShowsTheRunnerOfEachServer verifies the information about MCPServers. The image in a StatefulSet is text of whoever may write
// the StatefulSet, and is cut.
func TestTheMetricShowsTheRunnerOfEachServer(t *testing.T) {
	set := func(name, image string) appsv1.StatefulSet {
		set := appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
		set.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: applyconfigs.RunnerName, Image: image}}
		return set
	}
	forced := serverNamed("forced", healthy())
	forced.Spec = v1beta1.MCPServerSpec{
		Replicas: ptr.To[int32](1), ReplicasConflictPolicy: v1beta1.ReplicasConflictForce, Transport: v1beta1.TransportStreamableHTTP,
	}
	collects(t, cached{
		servers: []v1beta1.MCPServer{forced, serverNamed("direct", healthy()), serverNamed("long", healthy()), serverNamed("bytes", healthy())},
		sets:    []appsv1.StatefulSet{set("forced", "registry.example/operator:1"), set("bytes", "\xff"), set("long", strings.Repeat("x", 10_000)), set("unrelated", "y")},
	}, `
		mcpserver_info{name="forced",namespace="team",policy="Force",runner="registry.example/operator:1",transport="streamable-http"} 1
		mcpserver_info{name="direct",namespace="team",policy="",runner="",transport="stdio"} 1
		mcpserver_info{name="bytes",namespace="team",policy="",runner="?",transport="stdio"} 1
		mcpserver_info{name="long",namespace="team",policy="",runner="`+strings.Repeat("x", 197)+`…",transport="stdio"} 1
	`, "mcpserver_info")
}

// The series of an MCPServer: info, replicas asked and ready, and the owner; and one more if it declares replicas. An MCPServer with every problem
// at once, which cannot be, would have all conditions, three writers of a fight, and pending generations.
const (
	seriesOfHealthy = 5
	seriesAtMost    = 17
)

// fleet returns MCPServers, each with text of strangers in every place where the API allows it.
func fleet(count int, isHealthy bool) cached {
	var cache cached
	for i := range count {
		server := serverNamed(fmt.Sprintf("server-%d", i), healthy())
		server.Spec.Replicas = ptr.To[int32](1)
		if !isHealthy {
			server.Generation = 2
			stranger := fmt.Sprintf("stranger-%d-%s", i, strings.Repeat("x", 1000))
			server.Status.Scale = &v1beta1.ScaleStatus{
				Owner: stranger, TakeBacks: &v1beta1.ScaleTakeBacks{From: "kubectl, HorizontalPodAutoscaler/" + stranger + ", " + stranger},
			}
			server.Status.Conditions = nil
			for _, kind := range append([]string{stranger}, v1beta1.Conditions...) {
				one := metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: stranger}
				switch kind {
				case v1beta1.ConditionReady:
					one.Status = metav1.ConditionFalse
				case v1beta1.ConditionScaleConflict:
					one.Reason = "ScaleFight"
				}
				server.Status.Conditions = append(server.Status.Conditions, one)
			}
		}
		cache.servers = append(cache.servers, server)
	}
	return cache
}

// TestTheNumberOfSeriesIsBounded verifies that 5,000 MCPServers have a bounded number of series, and that strangers choose no label.
func TestTheNumberOfSeriesIsBounded(t *testing.T) {
	const servers = 5000
	for name, test := range map[string]struct {
		isHealthy bool
		perServer int
	}{"healthy": {true, seriesOfHealthy}, "every problem at once": {false, seriesAtMost}} {
		t.Run(name, func(t *testing.T) {
			cache := fleet(servers, test.isHealthy)
			if got := testutil.CollectAndCount(collector{cache: cache}); got != servers*test.perServer {
				t.Errorf("%d MCPServers have %d series, wanted %d for each", servers, got, test.perServer)
			}
			values := map[string]map[string]bool{}
			registry := prometheus.NewPedanticRegistry()
			registry.MustRegister(collector{cache: cache})
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, family := range families {
				for _, metric := range family.GetMetric() {
					for _, label := range metric.GetLabel() {
						if values[label.GetName()] == nil {
							values[label.GetName()] = map[string]bool{}
						}
						values[label.GetName()][label.GetValue()] = true
					}
				}
			}
			delete(values, "name") // the name of an object, which Kubernetes bounds
			for label, all := range values {
				if len(all) > 10 {
					t.Errorf("the label %s has %d values", label, len(all))
				}
				for value := range all {
					if strings.Contains(value, "stranger") {
						t.Errorf("a stranger has chosen %.40q for the label %s", value, label)
					}
				}
			}
		})
	}
}

// BenchmarkCollect measures a scrape of the state metrics of 5,000 MCPServers.
func BenchmarkCollect(b *testing.B) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{cache: fleet(5000, true)})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestTheDocsHaveEveryMetric verifies that docs/operations.md has each metric of the operator, with its type and its labels.
func TestTheDocsHaveEveryMetric(t *testing.T) {
	content, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([a-z_]+)`")
	documented := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(mcpserver_[a-z_]+)` \\| (.*?) \\| (.*?) \\|(.*?)\\|.*$").FindAllStringSubmatch(string(content), -1) {
		documented[row[1]] = append(documented[row[1]], row[2])
		if strings.TrimSpace(row[3]) == "" {
			t.Errorf("%s has no unit", row[1])
		}
		for _, label := range quoted.FindAllStringSubmatch(row[4], -1) {
			documented[row[1]] = append(documented[row[1]], label[1])
		}
	}
	described := regexp.MustCompile(`fqName: "(.*?)".*variableLabels: \{(.*?)\}`)
	descriptions := make(chan *prometheus.Desc, 100)
	for _, one := range []prometheus.Collector{collector{}, applies, scaleTransfers, scaleFights} {
		one.Describe(descriptions)
	}
	close(descriptions)
	for description := range descriptions {
		found := described.FindStringSubmatch(description.String())
		kind := "gauge"
		if strings.HasSuffix(found[1], "_total") {
			kind = "counter"
		}
		wanted := append([]string{kind}, strings.FieldsFunc(found[2], func(r rune) bool { return r == ',' })...)
		if got := documented[found[1]]; !slices.Equal(got, wanted) {
			t.Errorf("%s is a %q, and %q in docs/operations.md", found[1], wanted, got)
		}
		delete(documented, found[1])
	}
	for name := range documented {
		t.Errorf("docs/operations.md has %s, which the operator does not register", name)
	}
}
