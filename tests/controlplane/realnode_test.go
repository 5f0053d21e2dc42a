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

// requireRealNode skips a test where a real node cannot run, unless RequiredVariable says that it has to.
func requireRealNode(t *testing.T) {
	t.Helper()
	if err := Available(Real); err != nil {
		if Required() {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestRealNodesRunPodsAndStopLeavesNothing: Start returns when a pod has run on each node and DNS has answered.
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
		t.Errorf("the nodes are %v", names)
	}
	var inits, cgroups []string
	for _, node := range cp.nodes {
		inits = append(inits, strconv.Itoa(node.namespace.PID()))
		cgroups = append(cgroups, node.cgroup)
	}
	if _, err := runPod(t.Context(), clients, "node-1"); err != nil { // what has to be undone
		t.Error(err)
	}
	mounted := mounts(t, inits[0])
	if !strings.Contains(mounted, cp.Dir) {
		t.Error("a node that runs pods has no mounts: this test would not see any")
	}
	if strings.Contains(mounts(t, "self"), cp.Dir) {
		t.Error("the mounts of the nodes are seen outside")
	}

	if err := cp.Stop(false); err != nil {
		t.Fatal(err)
	}
	waitUntilUnused(t, cp.Dir)
	nothingIsLeft(t, cp.Dir, cgroups)
	for _, pid := range inits {
		if !isGone(pid) {
			t.Errorf("process 1 of a node, %s, still runs", pid)
		}
	}
}

// TestAKilledStarterLeavesNothingAfterTheNextStart: the kernel ends the processes and undoes the mounts; the next start
// removes the files and the cgroups.
func TestAKilledStarterLeavesNothingAfterTheNextStart(t *testing.T) {
	requireRealNode(t)
	holder, dir := startHolder(t, Real)
	cgroup := cgroupName(holder.Process.Pid, filepath.Base(dir), 1)
	if len(cgroupsNamed(t, cgroup)) == 0 {
		t.Error("the node has no cgroup: this test would not see one that is left")
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

// TestALostKubeletIsNoticedAndComesBack: the node turns NotReady within the grace period of the tests, and Ready again.
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

// TestPreflightNamesWhatIsMissingAndHowToGetIt: with an empty PATH every program is missing.
func TestPreflightNamesWhatIsMissingAndHowToGetIt(t *testing.T) {
	if os.Geteuid() != 0 {
		if err := Preflight(); err == nil || !strings.Contains(err.Error(), "root") {
			t.Errorf("without root it says: %v", err)
		}
		return
	}
	t.Setenv("PATH", t.TempDir())
	err := Preflight()
	if err == nil {
		t.Fatal("nothing is missing")
	}
	for _, part := range []string{"runc", "nftables", "iproute2", `"make node-tools"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("it does not say %s: %v", part, err)
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
			t.Errorf("%s: it started", name)
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

// cgroupsNamed are the folders of a cgroup that there are.
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
		t.Errorf("%s is still there: %v", dir, err)
	}
	if strings.Contains(mounts(t, "self"), dir) {
		t.Errorf("something is mounted below %s", dir)
	}
	for _, cgroup := range cgroups {
		if left := cgroupsNamed(t, cgroup); len(left) > 0 {
			t.Errorf("these cgroups are still there: %v", left)
		}
	}
}

// TestIsGone: a process that runs is not taken for one that has ended.
func TestIsGone(t *testing.T) {
	if isGone(strconv.Itoa(os.Getpid())) {
		t.Error("this process is taken for gone")
	}
	ended := exec.CommandContext(t.Context(), "true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	if pid := ended.Process.Pid; !isGone(strconv.Itoa(pid)) && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		t.Errorf("process %d is gone, and not taken for it", pid)
	}
	if isGone("no number") {
		t.Error("what is no process id is taken for a process that is gone")
	}
}
