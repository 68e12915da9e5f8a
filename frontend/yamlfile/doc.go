// Package yamlfile reads build files that are YAML. A format is described by tables of its keys
// ([Table]), from which come decoding with positions, the suggestions for misspelled keys, the
// writing of values and the JSON Schema for editors. All mistakes of a file are gathered
// ([Decoder]), and hostile files are bounded.
package yamlfile
