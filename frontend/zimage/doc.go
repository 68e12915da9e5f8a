// Package zimage is the frontend for ZImagefiles, build files in YAML.
//
// [Parse] decodes and checks a ZImagefile, with all problems of the file at once and each at its
// place. [Convert] gives the Dockerfile that it stands for, together with a map from the lines of
// the one to the places of the other, so that everything BuildKit says about the Dockerfile can be
// said about the ZImagefile. What a ZImagefile means is therefore defined by a text that any
// BuildKit can build; the package never contacts one and reads no files but those it is asked to
// find.
//
// The fields, their kinds and their documentation stand in one table (table.go) from which the
// decoder, the encoder and the JSON Schema are made.
package zimage
