//go:build embedrunc

package daemon

import _ "embed"

// The Makefile puts a static runc, compressed with gzip, in this place.
//
//go:embed runc.gz
var runcGz []byte

// embeddedRunc returns the compressed runc of this program, or nil.
func embeddedRunc() []byte { return runcGz }
