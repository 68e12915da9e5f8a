package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

const docFile = "../../docs/cli.md"

// docs/cli.md is what the commands say of themselves.
func TestDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString("# The command line\n\n" +
		"<!-- Written by go test ./cmd/zlayer -run TestDocs -update from the commands themselves. -->\n\n")
	root := newRoot(newApp())
	list := documented(root)
	for _, c := range list {
		fmt.Fprintf(&b, "- [%s](#%s): %s\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
	}
	for _, c := range list {
		var text bytes.Buffer
		if err := help(&text, c); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s```\n", c.CommandPath(), text.String())
	}
	if *update {
		if err := os.MkdirAll("../../docs", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(docFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("%s is stale: go test ./cmd/zlayer -run TestDocs -update (-file +commands)\n%s", docFile, d)
	}
}

// documented are the commands with a page of their own.
func documented(root *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	each(root, func(c *cobra.Command) {
		ours := c.Name() != "help" && c.Name() != "completion" && (!c.HasParent() || c.Parent().Name() != "completion")
		if ours && !c.Hidden {
			out = append(out, c)
		}
	})
	return out
}

// Every flag says what it does, every command has a use that begins with its
// name, and whoever runs something says which global flags it heeds.
func TestCommandsAreDescribed(t *testing.T) {
	root := newRoot(newApp())
	for _, c := range documented(root) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short description %q", c.CommandPath(), c.Short)
		}
		for _, l := range strings.Split(c.Long+"\n"+c.Example, "\n") {
			if len(l) > helpWidth {
				t.Errorf("%s: line of %d characters: %s", c.CommandPath(), len(l), l)
			}
		}
		for _, f := range globalFlags(c) {
			if f.Usage == "" {
				t.Errorf("%s: flag --%s has no description", c.CommandPath(), f.Name)
			}
		}
	}
	for flag := range globalEnv {
		if root.PersistentFlags().Lookup(flag) == nil {
			t.Errorf("an environment variable stands in for --%s, which does not exist", flag)
		}
	}
	each(root, func(c *cobra.Command) {
		for name := range strings.FieldsSeq(c.Annotations["globals"]) {
			if root.PersistentFlags().Lookup(name) == nil {
				t.Errorf("%s heeds --%s, which does not exist", c.CommandPath(), name)
			}
		}
	})
}
