package controlplane

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// requireRealNode skips a test if no real node can run. If RequiredVariable is set, the test fails instead.
func requireRealNode(t *testing.T) {
	t.Helper()
	if err := Available(Real); err != nil {
		if Required() {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestRealNodesRunPodsAndStopLeavesNothing relies on Start, which returns after a pod has run on each node and DNS has answered.
func TestRealNodesRunPodsAndStopLeavesNothing(t *testing.T) {
	requireRealNode(t)
	cp, err := Start(t.Context(), Options{Components: []string{KubeControllerManager, KubeScheduler}, Node: Real, Nodes: 2})
	if err != nil {
		t.Fatal(err)
	}
	clients := kubernetes.NewForConfigOrDie(cp.Config)
	live, err := clients.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Error(err)
	} else if names := namesOf(live.Items); !slices.Equal(names, []string{"node-1", "node-2"}) {
		t.Errorf("unexpected nodes %v", names)
	}
	var inits, cgroups []string
	for _, node := range cp.nodes {
		inits = append(inits, strconv.Itoa(node.namespace.PID()))
		cgroups = append(cgroups, node.cgroup)
	}
	if _, err := runPod(t.Context(), clients, "node-1"); err != nil { // Stop has to remove this pod's mounts
		t.Error(err)
	}
	mounted := mounts(t, inits[0])
	if !strings.Contains(mounted, cp.Dir) {
		t.Error("the test found no mounts on a node that runs pods, so it cannot detect leftovers")
	}
	if strings.Contains(mounts(t, "self"), cp.Dir) {
		t.Error("the mounts of the nodes are visible outside")
	}

	if err := cp.Stop(false); err != nil {
		t.Fatal(err)
	}
	waitUntilUnused(t, cp.Dir)
	nothingIsLeft(t, cp.Dir, cgroups)
	for _, pid := range inits {
		if !isGone(pid) {
			t.Errorf("process 1 of a node, %s, is still running", pid)
		}
	}
}

// TestAKilledStarterLeavesNothingAfterTheNextStart: after a kill, the kernel ends the processes and removes the mounts. The
// next start removes the files and the cgroups.
func TestAKilledStarterLeavesNothingAfterTheNextStart(t *testing.T) {
	requireRealNode(t)
	holder, dir := startHolder(t, Real)
	cgroup := cgroupName(holder.Process.Pid, filepath.Base(dir), 1)
	if len(cgroupsNamed(t, cgroup)) == 0 {
		t.Error("the test found no cgroup of the node, so it cannot detect leftovers")
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // it was killed
	waitUntilUnused(t, dir)

	next, err := Start(t.Context(), Options{Components: []string{KubeControllerManager, KubeScheduler}, Node: Real})
	if err != nil {
		t.Fatal(err)
	}
	nothingIsLeft(t, dir, []string{cgroup})
	if err := next.Stop(t.Failed()); err != nil {
		t.Error(err)
	}
}

// TestALostKubeletIsNoticedAndComesBack verifies that a node without a kubelet becomes NotReady within the grace period of the
// tests, and Ready again when the kubelet restarts.
func TestALostKubeletIsNoticedAndComesBack(t *testing.T) {
	requireRealNode(t)
	cp, err := Start(t.Context(), Options{Components: []string{KubeControllerManager, KubeScheduler}, Node: Real})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cp.Stop(t.Failed()); err != nil {
			t.Error(err)
		}
	}()
	nodes := kubernetes.NewForConfigOrDie(cp.Config).CoreV1().Nodes()
	if err := cp.Kill(Kubelet + "-node-1"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the node to be NotReady", func() bool {
		node, err := nodes.Get(t.Context(), "node-1", metav1.GetOptions{})
		return err == nil && isReady(node) != nil
	})
	if err := cp.StartAgain(t.Context(), Kubelet+"-node-1"); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the node to be Ready", func() bool {
		node, err := nodes.Get(t.Context(), "node-1", metav1.GetOptions{})
		return err == nil && isReady(node) == nil
	})
}

// TestPreflightNamesWhatIsMissingAndHowToGetIt sets an empty PATH, so that every program is missing.
func TestPreflightNamesWhatIsMissingAndHowToGetIt(t *testing.T) {
	if os.Geteuid() != 0 {
		if err := Preflight(); err == nil || !strings.Contains(err.Error(), "root") {
			t.Errorf("unexpected error without root: %v", err)
		}
		return
	}
	t.Setenv("PATH", t.TempDir())
	err := Preflight()
	if err == nil {
		t.Fatal("Preflight reports no missing programs")
	}
	for _, part := range []string{"runc", "nftables", "iproute2", `"make node-tools"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not contain %s: %v", part, err)
		}
	}
}

func TestNodesThatCannotBeAreRefused(t *testing.T) {
	all := []string{KubeControllerManager, KubeScheduler}
	for name, options := range map[string]Options{
		"an unknown kind":            {Components: all, Node: "imagined"},
		"two played nodes":           {Components: all, Nodes: 2},
		"three real nodes":           {Components: all, Node: Real, Nodes: 3},
		"a real node without others": {Node: Real},
	} {
		if _, err := Start(t.Context(), options); err == nil {
			t.Errorf("%s: the control plane started", name)
		}
	}
}

func namesOf(nodes []corev1.Node) []string {
	var names []string
	for i := range nodes {
		names = append(names, nodes[i].Name)
	}
	slices.Sort(names)
	return names
}

func mounts(t *testing.T, pid string) string {
	t.Helper()
	content, err := os.ReadFile("/proc/" + pid + "/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// cgroupsNamed returns the folders of the cgroups with the given name.
func cgroupsNamed(t *testing.T, name string) []string {
	t.Helper()
	var found []string
	for _, root := range cgroupRoots() {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			found = append(found, filepath.Join(root, name))
		}
	}
	return found
}

func nothingIsLeft(t *testing.T, dir string, cgroups []string) {
	t.Helper()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s still exists: %v", dir, err)
	}
	if strings.Contains(mounts(t, "self"), dir) {
		t.Errorf("a mount below %s remains", dir)
	}
	for _, cgroup := range cgroups {
		if left := cgroupsNamed(t, cgroup); len(left) > 0 {
			t.Errorf("these cgroups remain: %v", left)
		}
	}
}

// TestIsGone verifies that isGone distinguishes running processes from ended ones.
func TestIsGone(t *testing.T) {
	if isGone(strconv.Itoa(os.Getpid())) {
		t.Error("isGone reports that this process has ended")
	}
	ended := exec.CommandContext(t.Context(), "true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if pid := ended.Process.Pid; !isGone(strconv.Itoa(pid)) && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		t.Errorf("process %d has ended, but isGone does not report it", pid)
	}
	if isGone("no number") {
		t.Error("isGone reports an ended process for an invalid process id")
	}
}
