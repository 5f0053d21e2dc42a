package reconcile

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"mcpserver-operator/applyconfigs"
	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/scale"
	"mcpserver-operator/reconcile/status"
)

// The gauges of collector. The metrics of a problem are present only while the problem exists.
var (
	info = stateMetric("mcpserver_info",
		"1 for each MCPServer, with its transport, its policy for scale conflicts (empty if it declares no replicas), and the image of the "+
			"runner in the pod template of its StatefulSet (empty if it has none).",
		"transport", "policy", "runner")
	replicasDeclared = stateMetric("mcpserver_replicas_declared",
		"The number of pods that the MCPServer declares. Absent if it declares none.")
	replicasAsked = stateMetric("mcpserver_replicas_asked",
		"The number of pods that the StatefulSet asks for, which is the scale.")
	replicasReady = stateMetric("mcpserver_replicas_ready",
		"The number of ready pods, without those that are being deleted.")
	scaleOwner = stateMetric("mcpserver_scale_owner",
		"1 for the current owner of the scale of each MCPServer, by its kind: MCPServer, Unclaimed, HorizontalPodAutoscaler, ScaledObject, "+
			"a well-known field manager, or other.",
		"owner")
	scaleFight = stateMetric("mcpserver_scale_fight",
		"1 for each writer with which the operator is in a fight over the scale, by its kind, as in mcpserver_scale_owner. Absent without a fight.",
		"writer")
	condition = stateMetric("mcpserver_condition",
		"1 for each condition of an MCPServer that is not normal: Ready if it is not True, any other condition if it is True.",
		"condition", "status", "reason")
	pendingGenerations = stateMetric("mcpserver_pending_generations",
		"The number of edits of the MCPServer that the operator has not processed yet. Absent if there are none, or while the MCPServer is suspended.")
)

// stateMetric describes a metric of an MCPServer.
func stateMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"namespace", "name"}, labels...), nil)
}

// mostCollecting is the maximum time that a scrape waits for the cache.
const mostCollecting = 5 * time.Second

// mostRunner is the maximum length of the label runner, in bytes. Whoever may write the StatefulSet can choose the image.
const mostRunner = 200

// collector computes the state metrics from the cache at each scrape. Every replica of the operator serves them, because each has a cache.
// All labels but namespace, name and runner have values from closed sets: see scale.OwnerKind and status.KnownReason.
type collector struct {
	cache client.Reader
}

func (c collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, description := range []*prometheus.Desc{
		info, replicasDeclared, replicasAsked, replicasReady, scaleOwner, scaleFight, condition, pendingGenerations,
	} {
		descriptions <- description
	}
}

func (c collector) Collect(series chan<- prometheus.Metric) {
	// A cache that is not synced blocks readers, and a scrape has a deadline.
	ctx, cancel := context.WithTimeout(context.Background(), mostCollecting)
	defer cancel()
	var servers v1beta1.MCPServerList
	var sets appsv1.StatefulSetList
	for _, list := range []client.ObjectList{&servers, &sets} {
		if err := c.cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			log.FromContext(ctx).Error(err, "Cannot list the objects for the metrics")
			return
		}
	}
	runners := map[client.ObjectKey]string{}
	for i := range sets.Items {
		runners[client.ObjectKeyFromObject(&sets.Items[i])] = applyconfigs.RunnerImageOf(&sets.Items[i])
	}
	for i := range servers.Items {
		server := &servers.Items[i]
		state{server, series}.collect(runners[client.ObjectKeyFromObject(server)])
	}
}

// state sends the metrics of an MCPServer.
type state struct {
	server *v1beta1.MCPServer
	series chan<- prometheus.Metric
}

func (s state) send(description *prometheus.Desc, value float64, labels ...string) {
	s.series <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, value, append([]string{s.server.Namespace, s.server.Name}, labels...)...)
}

func (s state) collect(runner string) {
	spec, now := &s.server.Spec, &s.server.Status
	policy := ""
	if declared := spec.DeclaredReplicas(); declared != nil {
		policy = string(v1beta1.ReplicasConflictYield)
		if spec.ReplicasConflictPolicy == v1beta1.ReplicasConflictForce {
			policy = string(v1beta1.ReplicasConflictForce)
		}
		s.send(replicasDeclared, float64(*declared))
	}
	s.send(info, 1, string(applyconfigs.Transport(s.server)), policy, status.Bounded(strings.ToValidUTF8(runner, "?"), mostRunner)) // an API client may write any bytes, and a label must be UTF-8
	if now.Scale != nil {
		s.send(replicasAsked, float64(now.Scale.Replicas))
		s.send(scaleOwner, 1, scale.OwnerKind(now.Scale.Owner))
	}
	// status.readyReplicas includes pods that are being deleted.
	ready, _, _ := strings.Cut(now.Ready, "/")
	if ready, err := strconv.Atoi(ready); err == nil {
		s.send(replicasReady, float64(ready))
	}
	if behind := s.server.Generation - max(now.ObservedGeneration, 0); behind > 0 && !spec.Suspend {
		s.send(pendingGenerations, float64(behind))
	}
	s.conditions()
	s.fight()
}

// conditions sends the conditions that are not normal. Conditions of other types belong to other clients, who choose their number.
func (s state) conditions() {
	for _, kind := range v1beta1.Conditions {
		found := apimeta.FindStatusCondition(s.server.Status.Conditions, kind)
		if found == nil || (found.Status == metav1.ConditionTrue) == (kind == v1beta1.ConditionReady) {
			continue
		}
		s.send(condition, 1, kind, string(found.Status), status.KnownReason(found.Reason))
	}
}

// fight sends the writers of a fight over the scale. Two writers may be of the same kind.
func (s state) fight() {
	found := apimeta.FindStatusCondition(s.server.Status.Conditions, v1beta1.ConditionScaleConflict)
	now := s.server.Status.Scale
	if found == nil || found.Reason != status.ReasonScaleFight || now == nil || now.TakeBacks == nil {
		return
	}
	sent := map[string]bool{}
	for _, writer := range scale.Writers(now.TakeBacks) {
		if kind := scale.OwnerKind(writer); !sent[kind] {
			sent[kind] = true
			s.send(scaleFight, 1, kind)
		}
	}
}
