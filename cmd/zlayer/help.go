package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is where help texts are broken.
const helpWidth = 100

// help writes what a command is for and which flags it heeds.
func help(w io.Writer, cmd *cobra.Command) error {
	var b strings.Builder
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(&b, "%s\n\nUsage:\n  %s\n", strings.TrimSpace(text), usageLine(cmd))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAliases: %s\n", strings.Join(cmd.Aliases, ", "))
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	section(&b, "Commands", commandList(cmd))
	localFlags(&b, cmd)
	section(&b, "Global flags", flagTexts(globalFlags(cmd)))
	section(&b, "Environment", environment(cmd))
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n%q tells more about a command.\n", cmd.CommandPath()+" COMMAND --help")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return &stdoutError{err}
	}
	return nil
}

func section(b *strings.Builder, title, text string) {
	if text != "" {
		fmt.Fprintf(b, "\n%s:\n%s", title, text)
	}
}

func usageLine(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " COMMAND"
	}
	path := cmd.CommandPath()
	if cmd.HasParent() {
		path = cmd.Parent().CommandPath() + " "
		return path + cmd.Use
	}
	return path
}

func commandList(cmd *cobra.Command) string {
	var b strings.Builder
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			fmt.Fprintf(&b, "  %-12s %s\n", c.Name(), c.Short)
		}
	}
	return b.String()
}

// flagGroup is the annotation that puts a flag into a section of its own.
const flagGroup = "group"

// group puts all flags that have no section yet into one.
func group(f *pflag.FlagSet, title string) {
	f.VisitAll(func(fl *pflag.Flag) {
		if fl.Annotations[flagGroup] == nil {
			_ = f.SetAnnotation(fl.Name, flagGroup, []string{title})
		}
	})
}

// localFlags writes the command's own flags in the order they were made, those of
// the root being shown as global.
func localFlags(b *strings.Builder, cmd *cobra.Command) {
	var titles []string
	groups := map[string][]*pflag.Flag{}
	global := cmd.Root().PersistentFlags()
	cmd.Flags().SortFlags = false
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || global.Lookup(f.Name) == f {
			return
		}
		title := "Flags"
		if g := f.Annotations[flagGroup]; len(g) > 0 {
			title = g[0]
		}
		if groups[title] == nil {
			titles = append(titles, title)
		}
		groups[title] = append(groups[title], f)
	})
	for _, t := range titles {
		section(b, t, flagTexts(groups[t]))
	}
}

// flagColumn is where the text of flags begins.
const flagColumn = 29

// flagTexts lists flags with what they do.
func flagTexts(list []*pflag.Flag) string {
	var b strings.Builder
	for _, f := range list {
		value, text := pflag.UnquoteUsage(f)
		head := "      --" + f.Name
		if f.Shorthand != "" {
			head = "  -" + f.Shorthand + ", --" + f.Name
		}
		switch {
		case f.NoOptDefVal != "" && f.Value.Type() != "bool":
			head += "[=" + value + "]"
		case value != "":
			head += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" {
			text += " (default " + f.DefValue + ")"
		}
		if len(head) > flagColumn-2 {
			head += "\n" + strings.Repeat(" ", flagColumn)
		} else {
			head += strings.Repeat(" ", flagColumn-len(head))
		}
		b.WriteString(head + wrap(text, helpWidth-flagColumn, strings.Repeat(" ", flagColumn)) + "\n")
	}
	return b.String()
}

// wrap breaks a text between words.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	n := 0
	for _, word := range strings.Fields(text) {
		switch {
		case n == 0:
		case n+1+len(word) > width:
			b.WriteString("\n" + indent)
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String()
}

// globalFlags are those that the command heeds; at the root all.
func globalFlags(cmd *cobra.Command) []*pflag.Flag {
	var out []*pflag.Flag
	cmd.Root().PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !cmd.HasParent() || heeds(cmd, f.Name) {
			out = append(out, f)
		}
	})
	return out
}

// environment lists the variables that a command heeds.
func environment(cmd *cobra.Command) string {
	var b strings.Builder
	line := func(name, text string) { fmt.Fprintf(&b, "  %-24s %s\n", name, text) }
	for _, f := range globalFlags(cmd) {
		if name := globalEnv[f.Name]; name != "" {
			line(name, "stands in for --"+f.Name)
		}
	}
	if cmd.Name() == "build" {
		for _, e := range buildEnv {
			line(e[0], e[1])
		}
	}
	return b.String()
}

// buildEnv are the variables that the build command heeds besides those of the
// global flags.
var buildEnv = [][2]string{
	{"ZLAYER_PROGRESS", "stands in for --progress; else BUILDKIT_PROGRESS does"},
	{"ZLAYER_JOBS", "stands in for --jobs"},
	{"ZLAYER_DEFAULT_REGISTRY", "stands in for --default-registry"},
	{"DOCKER_DEFAULT_PLATFORM", "stands in for --platform"},
	{"SOURCE_DATE_EPOCH", "becomes the build argument of that name"},
	{"DOCKER_CONFIG", "directory of docker's config.json: credentials, proxies of builds"},
	{"NO_COLOR", "if not empty: no colours"},
}
