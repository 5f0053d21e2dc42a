// Package node verifies the promises to users on real nodes, with real servers and clients. Pods run containers, and the operator is
// installed by its chart with two replicas. Each test covers one promise. vocabulary_test.go defines the steps of the tests.
//
// A real node requires root and some programs (see controlplane.Preflight). The image of the npm server requires npm. If a requirement
// is missing, the suite prints the reason and passes. If REQUIRE_REAL_NODE is true, as in CI, it fails instead.
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"

	"mcpserver-operator/tests/cluster"
	"mcpserver-operator/tests/controlplane"
	"mcpserver-operator/tests/images"
)

var (
	// testEnv runs the features.
	testEnv env.Environment
	// theCluster is the cluster of the suite.
	theCluster *cluster.Cluster
)

// The names of the images. The suite loads them into the nodes, because the nodes cannot pull images. Two names with the same content
// act as two versions.
const (
	serverImage     = "node.example/server:1"
	nextImage       = "node.example/server:2"
	rootImage       = "node.example/server:root"
	namedImage      = "node.example/server:named"
	absentImage     = "node.example/server:no-program"
	everythingImage = "node.example/everything:1"
	everythingNext  = "node.example/everything:2"
	packagesImage   = "node.example/packages:1"
	goImage         = "node.example/go-everything:1"
	goNext          = "node.example/go-everything:2"
	clientImage     = "node.example/client:1"
	operatorImage   = "node.example/mcpserver-operator"
)

// The versions of the operator. The suite installs the first and upgrades to the second.
const (
	firstVersion  = "1.0.0"
	secondVersion = "1.0.1"
)

func TestMain(m *testing.M) {
	if err := controlplane.Available(controlplane.Real); err != nil && !controlplane.Required() {
		fmt.Println("skipping tests/node:", err)
		os.Exit(0)
	}
	options := controlplane.Options{
		Components: []string{controlplane.KubeControllerManager, controlplane.KubeScheduler, controlplane.MetricsServer},
		Node:       controlplane.Real, Nodes: 2,
	}
	os.Exit(cluster.RunSuiteBare("node", options, func(ctx context.Context, c *cluster.Cluster) (int, error) {
		theCluster = c
		if err := errors.Join(loadImages(ctx), install(ctx)); err != nil {
			return 1, err
		}
		var err error
		testEnv, err = env.NewWithContext(ctx, envconf.New().WithKubeconfigFile(c.Kubeconfig).WithFailFast())
		if err != nil {
			return 1, fmt.Errorf("making the test environment: %w", err)
		}
		return testEnv.Run(m), nil
	}))
}

// loadImages builds the images of the servers, the client and the operator, and loads them into the nodes.
func loadImages(ctx context.Context) error {
	dir, err := images.Folder()
	if err != nil {
		return err
	}
	server, err := images.Server(ctx, dir)
	if err != nil {
		return err
	}
	as := func(user string) func() (v1.Image, error) {
		return func() (v1.Image, error) { return images.As(server, user) }
	}
	itself := func() (v1.Image, error) { return server, nil }
	version := func(version string) func() (v1.Image, error) {
		return func() (v1.Image, error) { return theCluster.OperatorImage(ctx, version) }
	}
	for _, made := range []struct {
		names []string
		image func() (v1.Image, error)
	}{
		{[]string{serverImage, nextImage}, itself},
		{[]string{rootImage}, as("")},
		{[]string{namedImage}, as(images.AppUser)},
		{[]string{absentImage}, func() (v1.Image, error) { return images.WithoutProgram(server) }},
		{[]string{everythingImage, everythingNext}, func() (v1.Image, error) { return images.Everything(ctx, dir) }},
		{[]string{packagesImage}, func() (v1.Image, error) { return images.Packages(ctx, dir) }},
		{[]string{goImage, goNext}, func() (v1.Image, error) { return images.GoEverything(ctx, dir) }},
		{[]string{clientImage}, func() (v1.Image, error) { return images.Client(ctx, dir) }},
		{[]string{operatorImage + ":" + firstVersion}, version(firstVersion)},
		{[]string{operatorImage + ":" + secondVersion}, version(secondVersion)},
	} {
		img, err := made.image()
		if err != nil {
			return err
		}
		for _, name := range made.names {
			if err := theCluster.LoadImage(ctx, name, img); err != nil {
				return err
			}
		}
	}
	return nil
}

// install installs the operator with Helm, as docs/installation.md describes, but without the runner, with which a test has to begin. It returns when both replicas run. If a test has
// changed the release, install undoes it.
func install(ctx context.Context) error {
	return upgrade(ctx, firstVersion, false)
}

// upgrade upgrades the operator to a version with or without the runner, and returns when both replicas run. If there is no release, it installs one.
// Other values of the chart, such as logLevel=debug, are those in more, or the default.
func upgrade(ctx context.Context, version string, runner bool, more ...string) error {
	values := append([]string{"image.repository=" + operatorImage, "image.tag=" + version, fmt.Sprintf("runner.enabled=%t", runner)}, more...)
	_, err := theCluster.Helm(ctx, "upgrade", "--install", "mcpserver-operator", "deploy/chart",
		"--namespace", cluster.OperatorNamespace, "--create-namespace", "--set="+strings.Join(values, ","), "--wait", "--timeout=2m")
	return err
}
