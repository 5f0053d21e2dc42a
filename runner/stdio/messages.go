package stdio

import "strings"

// isGeneral reports whether a notification is about the server, not about a request.
func isGeneral(method string) bool {
	return strings.HasSuffix(method, "/list_changed") || method == "notifications/resources/updated"
}
