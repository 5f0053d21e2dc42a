package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// The addresses of the real nodes, which are numbered from 1. All of it exists only in the namespaces of the nodes: both IP
// families, so that Services of each can be tried.
const (
	serviceRange = "10.96.0.0/16,fd00:10:96::/112"
	podRange     = "10.244.0.0/16,fd00:10:244::/56"
)

func nodeName(number int) string     { return "node-" + strconv.Itoa(number) }
func nodeAddress(number int) string  { return fmt.Sprintf("10.0.0.%d", number) }
func nodeAddress6(number int) string { return fmt.Sprintf("fd00:10::%d", number) }
func podSubnet(number int) string    { return fmt.Sprintf("10.244.%d.0/24", number) }
func podSubnet6(number int) string   { return fmt.Sprintf("fd00:10:244:%d::/64", number) }

// connect gives each node its addresses, a link to the other, and routes to its pods.
//
// The link is a pair of veth devices: the kernels of small machines often lack the device "dummy". Without a second node
// its other end stays in the first: the kubelet refuses a loopback address, and kube-apiserver and kube-proxy want a
// default route, so that there has to be a device.
func connect(nodes []*realNode) error {
	commands := []string{"link add eth0 type veth peer name eth0p"}
	if len(nodes) > 1 {
		// Process ids are those of the machine, because ip runs with the processes of the machine in view.
		commands = append(commands, fmt.Sprintf("link set eth0p netns %d name eth0", nodes[1].namespace.PID()))
	} else {
		commands = append(commands, "link set eth0p up")
	}
	for _, command := range commands {
		if err := nodes[0].ip(command); err != nil {
			return err
		}
	}
	for _, node := range nodes {
		for _, command := range []string{
			"link set lo up",
			"address add " + nodeAddress(node.number) + "/24 dev eth0",
			"-6 address add " + nodeAddress6(node.number) + "/64 dev eth0 nodad",
			"link set eth0 up",
			"route add default dev eth0",
			"-6 route add default dev eth0",
		} {
			if err := node.ip(command); err != nil {
				return err
			}
		}
		if err := node.forwardPackets(); err != nil {
			return err
		}
	}
	for _, from := range nodes {
		for _, to := range nodes {
			if from == to {
				continue
			}
			err := errors.Join(
				from.ip("route add "+podSubnet(to.number)+" via "+nodeAddress(to.number)),
				from.ip("-6 route add "+podSubnet6(to.number)+" via "+nodeAddress6(to.number)))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ip runs iproute2 in the network of a node.
func (n *realNode) ip(arguments string) error {
	var out bytes.Buffer
	command := exec.Command("ip", strings.Fields(arguments)...)
	command.Stdout, command.Stderr = &out, &out
	if err := n.namespace.StartInNetwork(command); err != nil {
		return fmt.Errorf("ip %s: %w", arguments, err)
	}
	if err := command.Wait(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", arguments, err, out.Bytes())
	}
	return nil
}

// forwardPackets lets a node route between its pods and the others, and lets kube-proxy see what its bridge forwards.
func (n *realNode) forwardPackets() error {
	return n.namespace.InNetwork(func() error {
		for _, setting := range []string{
			"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding",
			"net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables",
		} {
			if err := os.WriteFile("/proc/sys/"+setting, []byte("1"), 0); err != nil {
				return fmt.Errorf("configuring the network of %s: %w", n.name, err)
			}
		}
		return nil
	})
}
