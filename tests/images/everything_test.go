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
		t.Errorf("the libraries are %v, %v, want %v", libraries, err, want)
	}
	for _, output := range []string{"", "\tlibfoo.so.1 => not found\n", "\tnot a dynamic executable\n"} {
		if libraries, err := parseLDD(output); err == nil {
			t.Errorf("%q gives the libraries %v, want an error", output, libraries)
		}
	}
}

func TestWithoutNPM(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Everything(t.Context(), t.TempDir())
	if want := "the image of server-everything needs npm: install Node.js with npm"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want %q in it", err, want)
	}
}

// npm writes the registry of whoever made the lock file into it, and then asks that one, not the user's.
func TestLockFileNamesNoRegistry(t *testing.T) {
	if bytes.Contains(packageLock, []byte(`"resolved"`)) {
		t.Error(`everything/package-lock.json names a registry: make it with "npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved"`)
	}
}
