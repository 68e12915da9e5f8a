package runtimes

// The release lines that templates build with unless the project asks for another one: the newest
// that has been out long enough for its ecosystem to follow, and is still maintained.
const (
	defaultNode   = "24"
	defaultPython = "3.12"
	defaultGo     = "1.26"
	defaultRust   = "1" // there is no other line
	defaultBun    = "1"
	defaultDeno   = "2.9.6" // Deno's images have no tags for release lines
	defaultNginx  = "stable"

	defaultPNPM   = "10"
	defaultYarn   = "1.22.22" // the last one of its kind
	defaultBerry  = "4"
	defaultUV     = "0.*"
	defaultPoetry = "2.*"
	defaultDotnet = "10.0"
	defaultLTSC   = "ltsc2022"
)

// defaultVersion gives the default of a runtime that has just one release line.
func defaultVersion(language string) string {
	return map[string]string{
		"node": defaultNode, "python": defaultPython, "go": defaultGo, "rust": defaultRust,
		"bun": defaultBun, "deno": defaultDeno, "static": defaultNode,
	}[language]
}
