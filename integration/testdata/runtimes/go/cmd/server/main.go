// Command server is what the image runs.
package main

import (
	"fmt"
	"os"

	"example.com/sample/greeting"
)

func main() {
	fmt.Println("go says", greeting.Words(`hello "big world"`), os.Getuid())
}
