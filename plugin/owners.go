package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"mcpserver-operator/reconcile/ownership"
)

// fieldOwners are the owners of a field.
type fieldOwners struct {
	Field  string          `json:"field"`
	Owners []managedWriter `json:"owners"`
}

// managedWriter is an entry of managedFields.
type managedWriter struct {
	Manager     string                            `json:"manager"`
	Operation   metav1.ManagedFieldsOperationType `json:"operation"`
	Subresource string                            `json:"subresource,omitempty"`
	// LastWrite is the time of the last write of this manager to any of its fields.
	LastWrite *metav1.Time `json:"lastWrite,omitempty"`
}

func (w managedWriter) String() string {
	text := fmt.Sprintf("%s (%s", bounded(w.Manager), w.Operation)
	if w.Subresource != "" {
		text += ", " + bounded(w.Subresource)
	}
	return text + ")"
}

// mostShown is the maximum length of a text from the cluster, in bytes: anybody can choose the name of a field manager. The path of a field with long keys
// has some hundred.
const mostShown = 512

// mostError is the maximum length of an error of the API server or a webhook, in bytes.
const mostError = 8 << 10

// bounded returns a text from the cluster for the terminal, with at most mostShown bytes and without control characters.
func bounded(text string) string {
	return printable(text, mostShown, "")
}

// printable returns a text for the terminal, with at most most bytes and without control characters except those that are kept.
func printable(text string, most int, kept string) string {
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) && !strings.ContainsRune(kept, r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

func newOwners(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "owners TYPE/NAME [.PATH]",
		Short: "Show the owners of the fields of any object",
		Long: "Shows the owners of the fields of any object, as recorded in metadata.managedFields. " +
			"With a path, shows only this field and the fields below it. Entries of keyed lists are written with their key.\n\n" +
			"A time is the last write of the manager to any of its fields: Kubernetes records no time for each field.",
		Example: "  kubectl mcpserver owners statefulset/web .spec.replicas\n" +
			"  kubectl mcpserver owners deployment/web '.spec.template.spec.containers[name=\"web\"].image'",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			object, err := s.object(args[0])
			if err != nil {
				return err
			}
			path := ""
			if len(args) == 2 {
				if path, err = parsePath(args[1]); err != nil {
					return err
				}
			}
			owners, err := ownersOf(object, path)
			if err != nil {
				return err
			}
			if len(owners) == 0 && path != "" {
				if owners, err = ownersAbove(object, path); err != nil {
					return err
				}
			}
			if len(owners) == 0 && path != "" {
				s.warn("No manager owns %s of %s.", args[1], args[0])
			}
			return s.print(owners, func() string { return ownersText(owners) })
		},
	}
}

// object reads the object TYPE/NAME.
func (s *session) object(name string) (*unstructured.Unstructured, error) {
	if !strings.Contains(name, "/") {
		return nil, fmt.Errorf("invalid object %q: it must be TYPE/NAME, such as statefulset/web", name)
	}
	namespace, _, err := s.flags.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("finding the namespace: %w", err)
	}
	infos, err := resource.NewBuilder(s.flags).Unstructured().NamespaceParam(namespace).DefaultNamespace().
		ResourceTypeOrNameArgs(true, name).SingleResourceType().Do().Infos()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(infos) != 1 {
		return nil, fmt.Errorf("found %d objects for %q: name one object", len(infos), name)
	}
	object, isUnstructured := infos[0].Object.(*unstructured.Unstructured)
	if !isUnstructured {
		return nil, fmt.Errorf("%s is a %T", name, infos[0].Object)
	}
	return object, nil
}

// parsePath checks a path of a field and returns it in the notation of pathText.
func parsePath(text string) (string, error) {
	if !strings.HasPrefix(text, ".") || text == "." {
		return "", fmt.Errorf("invalid path %q: it must begin with a dot, such as .spec.replicas", text)
	}
	path := &strings.Builder{}
	for rest := text; rest != ""; {
		before, inside, found := strings.Cut(rest, "[")
		path.WriteString(before)
		if !found {
			break
		}
		inside, after, closed := strings.Cut(inside, "]")
		if !closed {
			return "", fmt.Errorf("invalid path %q: a bracket is not closed", text)
		}
		if inside != "" && strings.Trim(inside, "0123456789") == "" {
			return "", fmt.Errorf("invalid path %q: write the key of the list entry instead of the index %s, such as [name=\"web\"]; without a path, the command lists all fields", text, inside)
		}
		keys := strings.Split(strings.ReplaceAll(strings.ReplaceAll(inside, `"`, ""), " ", ""), ",")
		slices.Sort(keys)
		path.WriteString("[" + strings.Join(keys, ",") + "]")
		rest = after
	}
	return path.String(), nil
}

// pathText returns a path without the quotes of its keys.
func pathText(path fieldpath.Path) string { return strings.ReplaceAll(path.String(), `"`, "") }

// isBelow reports whether a path is the path with the given text, as returned by pathText, or below it. A key such as that of a label may have dots: the
// text must end where an element of the path ends.
func isBelow(path fieldpath.Path, top string) bool {
	if top == "" {
		return true
	}
	for i := range path {
		if pathText(path[:i+1]) == top {
			return true
		}
	}
	return false
}

// ownersAbove returns the owners of the field that has the field at a path in it and is owned as a whole, such as an atomic list or map.
func ownersAbove(object metav1.Object, path string) ([]fieldOwners, error) {
	owners, err := ownersOf(object, "")
	return slices.DeleteFunc(owners, func(one fieldOwners) bool {
		rest, isAbove := strings.CutPrefix(path, strings.ReplaceAll(one.Field, `"`, ""))
		return !isAbove || (!strings.HasPrefix(rest, ".") && !strings.HasPrefix(rest, "["))
	}), err
}

// ownersOf returns the owners of the fields at and below a path, sorted by field.
func ownersOf(object metav1.Object, top string) ([]fieldOwners, error) {
	all := map[string]*fieldOwners{}
	for _, entry := range object.GetManagedFields() {
		fields, err := ownership.FieldsOf(entry)
		if err != nil {
			return nil, err
		}
		writer := managedWriter{Manager: entry.Manager, Operation: entry.Operation, Subresource: entry.Subresource, LastWrite: entry.Time}
		shown := fields.Leaves()
		fields.Iterate(func(path fieldpath.Path) {
			text := pathText(path)
			if !isBelow(path, top) || (!shown.Has(path) && text != top) {
				return
			}
			if all[text] == nil {
				all[text] = &fieldOwners{Field: path.String()}
			}
			all[text].Owners = append(all[text].Owners, writer)
		})
	}
	owners := []fieldOwners{}
	for _, field := range all {
		owners = append(owners, *field)
	}
	slices.SortFunc(owners, func(a, b fieldOwners) int { return cmp.Compare(a.Field, b.Field) })
	return owners, nil
}

func ownersText(owners []fieldOwners) string {
	rows := []string{"FIELD\tOWNER\tLAST WRITE OF THE OWNER"}
	for _, field := range owners {
		name := bounded(field.Field)
		for _, owner := range field.Owners {
			rows = append(rows, name+"\t"+owner.String()+"\t"+timeText(owner.LastWrite))
			name = ""
		}
	}
	return tableOf(rows)
}

func timeText(t *metav1.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}
