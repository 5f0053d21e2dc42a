package ownership_test

import (
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/reconcile/ownership"
)

var (
	self     = ownership.Applier("my-operator")
	replicas = fieldpath.MakePathOrDie("spec", "replicas")
)

// read returns a StatefulSet as an operator reads it.
func read(entries ...metav1.ManagedFieldsEntry) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "web", ResourceVersion: "42", ManagedFields: entries}}
}

func entry(manager string, operation metav1.ManagedFieldsOperationType, subresource, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, Subresource: subresource, APIVersion: "apps/v1",
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}
}

// print prints a patch, one operation per line.
func print(patch []ownership.Operation, err error) {
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, operation := range patch {
		line, err := json.Marshal(operation)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(string(line))
	}
}

// An operator leaves the scale to others when the user no longer declares it. It first releases the field, and then applies without it.
func Example() {
	set := read(entry("my-operator", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{},"f:template":{}}}`))
	var declared *int32 // the user has removed the number

	owners, err := ownership.OwnersOf(set, replicas)
	if err != nil {
		fmt.Println(err)
		return
	}
	switch {
	case declared != nil:
		fmt.Println("apply with replicas")
	case ownership.Owns(owners, self):
		fmt.Println("send this patch, and reconcile again:")
		print(ownership.Release(set, self, replicas))
	default:
		fmt.Println("apply without replicas, with the uid and resourceVersion that were read")
	}
	// Output:
	// send this patch, and reconcile again:
	// {"op":"test","path":"/metadata/resourceVersion","value":"42"}
	// {"op":"replace","path":"/metadata/managedFields/0/fieldsV1","value":{"f:spec":{"f:template":{}}}}
}

// A HorizontalPodAutoscaler writes through the subresource scale.
func ExampleOwnersOf() {
	set := read(
		entry("my-operator", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:template":{}}}`),
		entry("kube-controller-manager", metav1.ManagedFieldsOperationUpdate, "scale", `{"f:spec":{"f:replicas":{}}}`),
	)
	owners, err := ownership.OwnersOf(set, replicas)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, owner := range owners {
		fmt.Println(owner.Name, owner.Operation, owner.Subresource)
	}
	fmt.Println("my-operator owns it:", ownership.Owns(owners, self))
	// Output:
	// kube-controller-manager Update scale
	// my-operator owns it: false
}

// The entry is removed with its last field.
func ExampleRelease() {
	set := read(
		entry("kubectl", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:template":{}}}`),
		entry("my-operator", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{}}}`),
	)
	print(ownership.Release(set, self, replicas))
	// Output:
	// {"op":"test","path":"/metadata/resourceVersion","value":"42"}
	// {"op":"remove","path":"/metadata/managedFields/1"}
}

// A former version of the operator wrote with create and update. It also owns the default of spec.replicas, which the operator must not
// get: its next apply without replicas would reset them.
func ExampleMigrate() {
	set := read(entry("manager", metav1.ManagedFieldsOperationUpdate, "", `{"f:spec":{"f:replicas":{},"f:template":{}}}`))
	print(ownership.Migrate(set, []string{"manager"}, self, replicas))
	// Output:
	// {"op":"test","path":"/metadata/resourceVersion","value":"42"}
	// {"op":"replace","path":"/metadata/managedFields","value":[{"manager":"my-operator","operation":"Apply","apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:template":{}}}}]}
}

// A user hands the scale from Helm to an autoscaler: helm upgrade does not reset it, because Helm no longer owns it.
func ExampleMove() {
	helm := ownership.Applier("helm")
	autoscaler := ownership.Manager{Name: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, Subresource: "scale"}
	set := read(entry("helm", metav1.ManagedFieldsOperationApply, "", `{"f:spec":{"f:replicas":{}}}`))
	print(ownership.Move(set, []ownership.Manager{helm}, &autoscaler, "apps/v1", fieldpath.NewSet(replicas)))
	// Output:
	// {"op":"test","path":"/metadata/resourceVersion","value":"42"}
	// {"op":"replace","path":"/metadata/managedFields","value":[{"manager":"kube-controller-manager","operation":"Update","apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:replicas":{}}},"subresource":"scale"}]}
}

// A client has emptied managedFields. The operator restores its entry before it applies.
func ExampleRepair() {
	set := read()
	owned := fieldpath.NewSet(fieldpath.MakePathOrDie("spec", "template"))
	fmt.Println("lost:", ownership.IsLost(set))
	print(ownership.Repair(set, "apps/v1", self, owned))
	// Output:
	// lost: true
	// {"op":"test","path":"/metadata/resourceVersion","value":"42"}
	// {"op":"add","path":"/metadata/managedFields","value":[{"manager":"my-operator","operation":"Apply","apiVersion":"apps/v1","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:template":{}}}}]}
}
