package scale

import (
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"mcpserver-operator/crd/v1beta1"
	"mcpserver-operator/reconcile/ownership"
)

func hpa(desired int32, lastScale *time.Time) autoscalingv2.HorizontalPodAutoscaler {
	hpa := autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "web"}}
	hpa.Status.DesiredReplicas = desired
	if lastScale != nil {
		hpa.Status.LastScaleTime = ptr.To(metav1.NewTime(*lastScale))
	}
	return hpa
}

func byKEDA(hpa autoscalingv2.HorizontalPodAutoscaler) autoscalingv2.HorizontalPodAutoscaler {
	hpa.OwnerReferences = []metav1.OwnerReference{{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: "jobs", Controller: ptr.To(true)}}
	return hpa
}

func through(manager, subresource string, at time.Time) *ownership.Owner {
	return &ownership.Owner{
		Manager: ownership.Manager{Name: manager, Operation: metav1.ManagedFieldsOperationUpdate, Subresource: subresource},
		Time:    ptr.To(metav1.NewTime(at)),
	}
}

// TestTheOwnerIsWhomAPersonWouldName tests the name of the owner. The scale is 4 in all rows.
func TestTheOwnerIsWhomAPersonWouldName(t *testing.T) {
	long := start.Add(-time.Hour)
	type hpas = []autoscalingv2.HorizontalPodAutoscaler
	self := ownership.Owner{Manager: self}
	for name, row := range map[string]struct {
		owner *ownership.Owner
		hpas  hpas
		want  string
	}{
		"the operator":                      {&self, hpas{hpa(4, &start)}, "MCPServer"},
		"no manager":                        {nil, nil, "Unclaimed"},
		"no manager, an autoscaler wrote 4": {nil, hpas{hpa(4, &long)}, "HorizontalPodAutoscaler/web"},
		"no manager, an autoscaler wants another scale":        {nil, hpas{hpa(3, &long)}, "Unclaimed"},
		"no manager, an autoscaler never wrote":                {nil, hpas{hpa(4, nil)}, "Unclaimed"},
		"the controller of autoscalers":                        {through("kube-controller-manager", "scale", start), hpas{hpa(3, nil)}, "HorizontalPodAutoscaler/web"},
		"the controller of autoscalers, without an autoscaler": {through("kube-controller-manager", "scale", start), nil, "kube-controller-manager"},
		"the controller of autoscalers on GKE":                 {through("vpa-recommender", "scale", start), hpas{hpa(4, &start)}, "HorizontalPodAutoscaler/web"},
		"kubectl, after the autoscaler":                        {through("kubectl", "scale", start), hpas{hpa(4, &long)}, "kubectl"},
		"kubectl, beside an autoscaler":                        {through("kubectl", "scale", start), hpas{hpa(3, &start)}, "kubectl"},
		"an apply, beside an autoscaler":                       {through("argocd-controller", "", start), hpas{hpa(4, &start)}, "argocd-controller"},
		"KEDA itself":                                          {through("keda", "scale", start), hpas{byKEDA(hpa(9, nil))}, "ScaledObject/jobs"},
		"the autoscaler of KEDA":                               {nil, hpas{byKEDA(hpa(4, &start))}, "ScaledObject/jobs"},
		"KEDA, without its autoscaler":                         {through("keda", "scale", start), nil, "keda"},
	} {
		if got := OwnerName(row.owner, 4, row.hpas); got != row.want {
			t.Errorf("%s: got %s, wanted %s", name, got, row.want)
		}
	}
}

// TestTheNameOfAManagerIsNoAdvice verifies that the name of a field manager is never taken for an object, a keyword or several writers. Any
// writer can choose its name.
func TestTheNameOfAManagerIsNoAdvice(t *testing.T) {
	for _, name := range []string{"Namespace/production", "HorizontalPodAutoscaler/web", "ScaledObject/web", "MCPServer", "Unclaimed", `"MCPServer"`, "a, b"} {
		owner := OwnerName(through(name, "", start), 4, nil)
		if advice := StopAdvice(owner); strings.HasPrefix(advice, "Delete") {
			t.Errorf("a manager %q leads to the advice %q", name, advice)
		}
		if kind := OwnerKind(owner); kind != "other" {
			t.Errorf("a manager %q has the kind %q in metrics", name, kind)
		}
		if counted := CountTakeBack(nil, owner, metav1.NewTime(start)); len(Writers(counted)) != 1 {
			t.Errorf("a manager %q counts as several writers: %q", name, Writers(counted))
		}
	}
}

// TestOwnersWithoutANameOfTheirOwn verifies what messages say about owners that Kubernetes does not record, or has merged.
func TestOwnersWithoutANameOfTheirOwn(t *testing.T) {
	for owner, want := range map[string]string{
		"ancient-changes": "Kubernetes merges the oldest field managers",
		"Unclaimed":       "Kubernetes records no owner",
	} {
		if got := Describe(owner); !strings.Contains(got, want) {
			t.Errorf("%s is described as %q", owner, got)
		}
	}
}

// TestCurrentOwner verifies which of several owners at the same value decides the scale.
func TestCurrentOwner(t *testing.T) {
	early, late := through("early", "", start), through("late", "", start.Add(time.Minute))
	ours := ownership.Owner{Manager: self, Time: ptr.To(metav1.NewTime(start))}
	for name, row := range map[string]struct {
		owners Owners
		last   *v1beta1.ScaleStatus
		want   string
	}{
		"nobody":                     {nil, nil, ""},
		"the operator, beside later": {Owners{*late, ours}, nil, self.Name},
		"the later of two":           {Owners{*early, *late}, nil, "late"},
		"the last recorded of two": {
			Owners{*early, *late}, &v1beta1.ScaleStatus{Manager: "early", Operation: metav1.ManagedFieldsOperationUpdate}, "early",
		},
	} {
		got := ""
		if owner := row.owners.Current(row.last); owner != nil {
			got = owner.Name
		}
		if got != row.want {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
	if got := (Owners{ours, *late, *early, *late}).OthersThanOurs(); !slices.Equal(got, []string{`"early"`, `"late"`}) {
		t.Errorf("the other owners are %q", got)
	}
}
