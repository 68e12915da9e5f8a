// Package frontend holds what frontends share: the detection of build files and
// the reading of build files and ignore files from local directories.
package frontend
