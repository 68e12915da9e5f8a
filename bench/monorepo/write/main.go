// Command write writes the source tree of package monorepo into a directory.
//
//	write DIR BUSYBOX
package main

import (
	"fmt"
	"os"

	"github.com/zlayer-dev/zlayer/bench/monorepo"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: write DIR BUSYBOX")
		os.Exit(2)
	}
	if err := monorepo.Write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "write:", err)
		os.Exit(1)
	}
}
