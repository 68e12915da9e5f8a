// Command tool is a second program.
package main

import "fmt"

func main() { fmt.Println("tool") }
