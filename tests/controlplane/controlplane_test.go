package controlplane

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
)

// holderVariable holds a kind of node. If it is set, this test binary starts a control plane with that kind of node, prints
// its folder, and waits. Tests kill this process to simulate a caller that is killed.
const holderVariable = "CONTROLPLANE_TEST_HOLDER"

func TestMain(m *testing.M) {
	if node := os.Getenv(holderVariable); node != "" {
		hold(NodeKind(node))
	}
	os.Exit(m.Run())
}

func hold(node NodeKind) {
	options := Options{Node: node}
	if node == Real {
		options.Components = []string{KubeControllerManager, KubeScheduler}
	}
	cp, err := Start(context.Background(), options)
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString("dir " + cp.Dir + "\nready\n")
	select {}
}

func TestStartServesARealAPIAndStopLeavesNothing(t *testing.T) {
	cp, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	processes, built := cp.processes, versionBuilt(t, "go.mod")
	version, err := discovery.NewDiscoveryClientForConfigOrDie(cp.Config).ServerVersion()
	if err != nil {
		t.Error(err)
	} else if version.GitVersion != built {
		t.Errorf("the server reports version %s", version.GitVersion)
	}
	out, err := exec.CommandContext(t.Context(), cp.Kubectl(), "--kubeconfig="+cp.Kubeconfig, "version").Output()
	if err != nil {
		t.Error(err)
	} else if strings.Count(string(out), built+"\n") != 2 {
		t.Errorf("kubectl version prints:\n%s", out)
	}

	if err := cp.Stop(false); err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if err := syscall.Kill(p.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s is still running: %v", p.name, err)
		}
	}
	if _, err := os.Stat(cp.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s still exists: %v", cp.Dir, err)
	}
}

func TestRBACIsOn(t *testing.T) {
	cp, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cp.Stop(t.Failed()); err != nil {
			t.Error(err)
		}
	}()
	config := *cp.Config
	config.Impersonate.UserName = "nobody-in-particular"
	_, err = kubernetes.NewForConfigOrDie(&config).CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("a user without permissions can list Secrets: %v", err)
	}
}

// TestAKilledComponentStartsAgain verifies that a restarted component keeps its address and all acknowledged writes.
func TestAKilledComponentStartsAgain(t *testing.T) {
	cp, err := Start(t.Context(), Options{Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cp.Stop(t.Failed()); err != nil {
			t.Error(err)
		}
	}()
	namespaces := kubernetes.NewForConfigOrDie(cp.Config).CoreV1().Namespaces()
	for _, component := range []string{Etcd, KubeAPIServer} {
		name := "before-" + component
		if _, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := cp.Kill(component); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := namespaces.Get(ctx, name, metav1.GetOptions{}); err == nil {
			t.Errorf("the API answers while %s is down", component)
		}
		cancel()
		if err := cp.StartAgain(t.Context(), component); err != nil {
			t.Fatal(err)
		}
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			_, err := namespaces.Get(ctx, name, metav1.GetOptions{})
			return err == nil, nil
		})
		if err != nil {
			t.Errorf("reading an object that was written before %s was killed: %v", component, err)
		}
	}
	if err := cp.Kill(KubeScheduler); err == nil {
		t.Error("killing a component that was never started must fail")
	}
}

func TestAFailedStartNamesTheLogAndLeavesNothingRunning(t *testing.T) {
	_, err := Start(t.Context(), Options{APIServerArgs: []string{"--no-such-flag"}})
	if err == nil {
		t.Fatal("the control plane started with an unknown flag")
	}
	message := err.Error()
	for _, part := range []string{"starting kube-apiserver", "kube-apiserver.log", "unknown flag: --no-such-flag"} {
		if !strings.Contains(message, part) {
			t.Errorf("the error does not contain %q: %s", part, message)
		}
	}
	_, after, _ := strings.Cut(message, "Its log is ")
	log, _, _ := strings.Cut(after, " ")
	if _, err := os.Stat(log); err != nil {
		t.Errorf("the log was not kept: %v", err)
	}
	waitUntilUnused(t, filepath.Dir(log))
	if err := os.RemoveAll(filepath.Dir(log)); err != nil {
		t.Error(err)
	}
}

func TestUnknownComponentIsRefused(t *testing.T) {
	_, err := Start(t.Context(), Options{Components: []string{"kube-proxy"}})
	if err == nil || !strings.Contains(err.Error(), `"kube-proxy"`) {
		t.Errorf("got %v", err)
	}
}

// TestComponentsEndWithTheirStarter verifies that no component survives the process that started it, not even after kill -9.
func TestComponentsEndWithTheirStarter(t *testing.T) {
	holder, dir := startHolder(t, Played)
	if len(using(t, dir)) != 2 {
		t.Fatalf("want two processes, etcd and kube-apiserver, got %v", using(t, dir))
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // it was killed
	waitUntilUnused(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// startHolder starts a process that runs a control plane. It returns the process and the folder of the control plane.
func startHolder(t *testing.T, node NodeKind) (holder *exec.Cmd, dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	holder = exec.CommandContext(t.Context(), self)
	holder.Env = append(os.Environ(), holderVariable+"="+string(node))
	holder.Stderr = os.Stderr
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		if found, ok := strings.CutPrefix(lines.Text(), "dir "); ok {
			dir = found
		}
	}
	if dir == "" {
		t.Fatal("the holder did not start a control plane")
	}
	return holder, dir
}

// waitUntilUnused waits until no process has the folder of a control plane among its arguments.
func waitUntilUnused(t *testing.T, dir string) {
	t.Helper()
	waitFor(t, "the processes in "+dir+" to end", func() bool { return len(using(t, dir)) == 0 })
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true,
		func(context.Context) (bool, error) { return is(), nil })
	if err != nil {
		t.Errorf("waiting for %s: %v", what, err)
	}
}

// using returns the command lines that contain the path of a folder.
func using(t *testing.T, dir string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-e", "-ww", "-o", "args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, dir) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}
