package zimage

import (
	"bytes"

	"gopkg.in/yaml.v3"

	"github.com/zlayer-dev/zlayer/frontend/yamlfile"
)

// Marshal returns the file as YAML, in canonical order and without comments. Parsing the result
// gives an equal file. [Format] is for files that people keep.
func Marshal(f *File) []byte {
	return encodeYAML(yamlfile.EncodeObject(fileTable(), f))
}

func encodeYAML(n *yaml.Node) []byte {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	// The node is our own and the buffer takes everything, so neither can fail.
	if err := enc.Encode(n); err != nil {
		panic("zimage: encoding YAML: " + err.Error())
	}
	if err := enc.Close(); err != nil {
		panic("zimage: encoding YAML: " + err.Error())
	}
	return b.Bytes()
}
