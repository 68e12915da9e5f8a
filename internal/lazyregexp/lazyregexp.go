// Package lazyregexp compiles regular expressions when they are first used. A program that has nothing to build ends within
// milliseconds, and compiling at its start the dozens of expressions that it never uses took one of them.
package lazyregexp

import (
	"regexp"
	"sync"
)

// New gives a function that compiles expr (the syntax of package regexp) at its first call and returns the same expression
// at each. The function panics when expr does not parse; any number of goroutines may call it.
func New(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
