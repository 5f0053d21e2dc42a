// Package v1beta1 is the API of MCPServer, group toolhive.stacklok.dev, version v1beta1. The comments on the fields
// are the user's manual: kubectl explain prints them.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package=../../applyconfigs
// +groupName=toolhive.stacklok.dev
// +versionName=v1beta1
package v1beta1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is the group and version of MCPServer.
	GroupVersion = schema.GroupVersion{Group: "toolhive.stacklok.dev", Version: "v1beta1"}

	// SchemeGroupVersion is GroupVersion under the name that the generated apply configurations expect.
	SchemeGroupVersion = GroupVersion

	// SchemeBuilder adds the types of this package to a scheme.
	SchemeBuilder = runtime.NewSchemeBuilder(func(scheme *runtime.Scheme) error {
		scheme.AddKnownTypes(GroupVersion, &MCPServer{}, &MCPServerList{})
		metav1.AddToGroupVersion(scheme, GroupVersion)
		return nil
	})

	// AddToScheme adds MCPServer and MCPServerList to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)
