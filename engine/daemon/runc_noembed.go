//go:build !embedrunc

package daemon

// embeddedRunc returns the compressed runc of this program, or nil.
func embeddedRunc() []byte { return nil }
