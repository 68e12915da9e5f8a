package lab

import (
	"context"
	"sort"
)

// recipe is how the lab comes by an image.
type recipe struct {
	names []string // all the names of the image, the main one first
	about string   // one line for people
	lazy  bool     // made when asked for, because it takes long or needs more than a busybox
	make  func(context.Context, *Lab) (product, error)
}

// recipes lists every image that the lab can make.
func recipes() []recipe {
	return []recipe{
		busyboxRecipe(),
		onbuildRecipe(),
		everythingRecipe(),
		layersRecipe(),
		singleRecipe(),
		dockerTypesRecipe(),
		scannerRecipe(),
		debianRecipe(),
		golangRecipe(),
		golangBusyboxRecipe(),
		nodeRecipe(),
		frontendRecipe(),
	}
}

// Image is an image that the lab can make.
type Image struct {
	Names []string // the main name first
	About string   // what it is, in one line
	Lazy  bool     // whether it takes an Ensure; the others are there from the start
}

// Images lists what a lab can make, by main name.
func Images() []Image {
	var images []Image
	for _, rc := range recipes() {
		images = append(images, Image{Names: append([]string(nil), rc.names...), About: rc.about, Lazy: rc.lazy})
	}
	sort.Slice(images, func(i, j int) bool { return images[i].Names[0] < images[j].Names[0] })
	return images
}

// tagged gives the names of one image under several tags.
func tagged(image string, tags ...string) []string {
	names := make([]string, len(tags))
	for i, t := range tags {
		names[i] = image + ":" + t
	}
	return names
}
