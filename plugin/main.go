// Command kubectl-mcpserver is a plugin of kubectl for MCPServers: "kubectl mcpserver". It shows who owns the fields of an MCPServer's children,
// what the operator would do, and moves ownership. It acts with the permissions of its user.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// version is set by the linker: see the Makefile. It is the version of the operator's image of the same release.
var version = "development"

// The exit codes, as those of kubectl diff.
const (
	exitFound = 1
	exitError = 2
)

// mostOfErrors is the maximum length of the errors of a command, in bytes. They may have the answer of an admission webhook, and one line for each MCPServer.
const mostOfErrors = 64 << 10

// errFound is returned if a command that only looks has found something: a difference, a field that is not carried out, something to take over.
var errFound = errors.New("found")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr})
	stop()
	os.Exit(code)
}

// run runs the plugin with arguments and returns the exit code.
func run(ctx context.Context, args []string, streams genericiooptions.IOStreams) int {
	root := newRoot(streams)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFound):
		return exitFound
	default:
		_, _ = fmt.Fprintln(streams.ErrOut, "error:", printable(err.Error(), mostOfErrors, "\n\t"))
		return exitError
	}
}

func newRoot(streams genericiooptions.IOStreams) *cobra.Command {
	s := &session{IOStreams: streams, flags: genericclioptions.NewConfigFlags(true)}
	root := &cobra.Command{
		Use:   "kubectl-mcpserver",
		Short: "Show and move the ownership of MCPServers and their children",
		Long: "Shows who owns the fields of an MCPServer's children and what the operator would do, and moves ownership. " +
			"All commands act with your own permissions.\n\n" +
			"Exit codes: 0 if there is nothing to report, 1 if plan, audit, takeover --dry-run or update --dry-run have found something, 2 for errors.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl mcpserver"},
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentPreRunE = func(*cobra.Command, []string) error { // before a command changes something
		if s.output != "" && s.output != "json" && s.output != "yaml" {
			return fmt.Errorf("invalid value %q of --output: it must be json or yaml", s.output)
		}
		return nil
	}
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	s.flags.AddFlags(root.PersistentFlags())
	root.PersistentFlags().StringVarP(&s.output, "output", "o", "", "output format: json or yaml; if unset, text")
	root.AddCommand(
		newAudit(s), newTakeover(s), newPlan(s), newExplain(s), newOwners(s), newHandover(s), newHold(s), newResume(s), newUpdate(s),
	)
	return root
}
