package images

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestParseLDD(t *testing.T) {
	libraries, err := parseLDD("\tlinux-vdso.so.1 (0x00007f481e2c0000)\n" +
		"\tlibstdc++.so.6 => /lib/x86_64-linux-gnu/libstdc++.so.6 (0x00007f481e000000)\n" +
		"\t/lib64/ld-linux-x86-64.so.2 (0x00007f481e2c2000)\n")
	if want := []string{"/lib/x86_64-linux-gnu/libstdc++.so.6", "/lib64/ld-linux-x86-64.so.2"}; err != nil || !slices.Equal(libraries, want) {
		t.Errorf("got the libraries %v, %v, want %v", libraries, err, want)
	}
	for _, output := range []string{"", "\t/lib64/ld-linux-x86-64.so.2 (0x00007f481e2c2000)\n\tlibfoo.so.1 => not found\n", "\tnot a dynamic executable\n"} {
		if libraries, err := parseLDD(output); err == nil {
			t.Errorf("%q returns the libraries %v, want an error", output, libraries)
		}
	}
}

func TestWithoutNPM(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Everything(t.Context(), t.TempDir())
	if want := "the image of server-everything needs npm: install Node.js with npm"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got the error %v, want it to contain %q", err, want)
	}
}

// By default, npm writes the registry of the lock file's author into the lock file, and later ignores the user's registry.
func TestLockFileNamesNoRegistry(t *testing.T) {
	lock, err := packages.ReadFile("npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(lock, []byte(`"resolved"`)) {
		t.Error(`npm/package-lock.json contains a registry: create it with "npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved"`)
	}
}
