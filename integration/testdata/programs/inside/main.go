// Inside is the part of the tests that runs within a build: as a frontend that BuildKit calls, or,
// with the argument ssh, as a step that asks an ssh agent for its keys.
package main

import (
	"fmt"
	"net"
	"os"

	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	"github.com/moby/buildkit/util/appcontext"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/zlayer-dev/zlayer/frontend/dockerfile"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "ssh" {
		return listKeys(os.Getenv("SSH_AUTH_SOCK"))
	}
	return grpcclient.RunFromEnvironment(appcontext.Context(), dockerfile.Build)
}

// listKeys prints the fingerprints of an agent's keys and has it sign with each.
func listKeys(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	a := agent.NewClient(conn)
	keys, err := a.List()
	if err != nil {
		return err
	}
	for _, k := range keys {
		data := []byte("hello")
		sig, err := a.Sign(k, data)
		if err != nil {
			return err
		}
		if err := k.Verify(data, sig); err != nil {
			return err
		}
		fmt.Println("agent has", ssh.FingerprintSHA256(k))
	}
	return nil
}
