// Command release builds and pushes the files of a release. "make release" and "make release-push" run it.
//
//	release [flags] build   build the files into the folder -out
//	release [flags] push    push the image and the chart of the folder -out
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"mcpserver-operator/deploy/image"
	"mcpserver-operator/deploy/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", strings.ReplaceAll(err.Error(), "\n", "\nrelease: "))
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	out := flags.String("out", "bin/release", "folder for the files of the release")
	root := flags.String("root", ".", "folder of the sources")
	version := flags.String("version", "", "version of the release, such as v1.2.3")
	revision := flags.String("revision", "", "commit of the sources; if empty, the commit that is checked out, and no file may differ from it")
	created := flags.Int64("created", 0, "time of the commit in seconds since 1970; used only with -revision")
	tags := flags.String("tags", "", "build tags")
	imagePlatforms := flags.String("image-platforms", "linux/amd64,linux/arm64", "platforms of the image, separated by commas or spaces")
	pluginPlatforms := flags.String("plugin-platforms", "linux/amd64", "platforms of the kubectl plugin, separated by commas or spaces")
	var addresses release.Addresses
	flags.StringVar(&addresses.ImageRepository, "image-repository", "", "registry and name of the image, without a tag")
	flags.StringVar(&addresses.ChartRegistry, "chart-registry", "", "address below which the chart is pushed, such as oci://registry.example.com/charts")
	flags.StringVar(&addresses.SourceURL, "source-url", "", "address of the repository of the sources")
	flags.StringVar(&addresses.DownloadURL, "download-url", "", "address below which the files can be downloaded; if empty, releases/download/VERSION below -source-url")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	parsed, err := release.ParseVersion(*version)
	if err != nil {
		err = fmt.Errorf("VERSION: %w", err)
	}
	addresses.SourceURL = strings.TrimSuffix(addresses.SourceURL, "/")
	if addresses.DownloadURL = strings.TrimSuffix(addresses.DownloadURL, "/"); addresses.DownloadURL == "" {
		addresses.DownloadURL = addresses.SourceURL + "/releases/download/" + *version
	}
	if err := errors.Join(err, addresses.Validate()); err != nil {
		return err
	}
	made := release.Release{Root: *root, Version: parsed, Tags: *tags, Addresses: addresses}
	if made.ImagePlatforms, err = image.ParsePlatforms(*imagePlatforms); err != nil {
		return fmt.Errorf("IMAGE_PLATFORMS: %w", err)
	}
	if made.PluginPlatforms, err = image.ParsePlatforms(*pluginPlatforms); err != nil {
		return fmt.Errorf("PLUGIN_PLATFORMS: %w", err)
	}
	if made.Source, err = source(ctx, *root, parsed, *revision, *created); err != nil {
		return err
	}
	switch command := strings.Join(flags.Args(), " "); command {
	case "build":
		if err := made.Build(ctx, *out); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stdout, "%s: release %s of commit %s\n", *out, parsed, made.Source.Revision)
		return err
	case "push":
		pushed, err := made.Push(ctx, *out)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(stdout, strings.Join(pushed, "\n"))
		return err
	default:
		return fmt.Errorf("unexpected arguments %q: \"build\" or \"push\" must follow the flags", command)
	}
}

func source(ctx context.Context, root string, version release.Version, revision string, created int64) (release.Source, error) {
	if revision == "" {
		return release.SourceOf(ctx, root, version)
	}
	return release.ParseSource(revision, created)
}
