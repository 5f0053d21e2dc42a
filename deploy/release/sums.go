package release

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// sumsFile has the checksums of all other files, in the format of sha256sum.
const sumsFile = "SHA256SUMS"

// sumOf returns the SHA-256 of a file.
func sumOf(path string) (string, error) {
	content, _, err := open(path)
	if err != nil {
		return "", fmt.Errorf("compute a checksum: %w", err)
	}
	defer content.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, content); err != nil {
		return "", fmt.Errorf("compute the checksum of %s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// sum is a line of sumsFile.
type sum struct{ sha256, name string }

// sumsOf returns the checksums of the files in dir, without those of sumsFile, in the order of their names.
func sumsOf(dir string) ([]sum, error) {
	files, err := filesBelow(dir)
	if err != nil {
		return nil, err
	}
	var sums []sum
	for _, f := range files {
		if f.name == sumsFile {
			continue
		}
		sha256, err := sumOf(f.source)
		if err != nil {
			return nil, err
		}
		sums = append(sums, sum{sha256, f.name})
	}
	return sums, nil
}

func writeSums(dir string) error {
	sums, err := sumsOf(dir)
	if err != nil {
		return err
	}
	var lines bytes.Buffer
	for _, s := range sums {
		fmt.Fprintf(&lines, "%s  %s\n", s.sha256, s.name)
	}
	return writeContent(filepath.Join(dir, sumsFile), lines.Bytes())
}

// verifySums fails unless dir has exactly the files of sumsFile, with their checksums.
func verifySums(dir string) error {
	content, err := os.ReadFile(filepath.Join(dir, sumsFile)) //nolint:gosec // The maintainer who makes the release names the folder.
	if err != nil {
		return fmt.Errorf("read the checksums: %w: run \"make release\" first", err)
	}
	want := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		sha256, name, _ := strings.Cut(lines.Text(), "  ")
		want[name] = sha256
	}
	sums, err := sumsOf(dir)
	if err != nil {
		return err
	}
	for _, s := range sums {
		if want[s.name] != s.sha256 {
			return fmt.Errorf("%s is not the file of the release: its checksum is not in %s: run \"make release\" again", s.name, sumsFile)
		}
		delete(want, s.name)
	}
	for name := range want {
		return fmt.Errorf("%s is missing: run \"make release\" again", name)
	}
	return nil
}
