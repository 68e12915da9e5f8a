// Command service answers lines with lines on standard input and output, as inetd runs it.
package main

import (
	"fmt"
	"os"
)

var version = "unknown"

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
