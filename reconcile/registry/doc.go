// Package registry looks up the command that a container image runs: its entrypoint and its cmd. The operator needs the command to start a
// stdio server behind the runner if the manifest of the server has no command. The package does not depend on MCPServer.
//
// A [Reader] reads one image from its registry. [Lookups] does so in the background for reconcilers, and remembers the results.
//
// # Security
//
// Whoever may create an MCPServer chooses the image, and so the host and port that the operator connects to. The operator may reach hosts
// that this user's pods do not reach. The package limits what the user gains:
//
//   - Only HTTPS with a verified certificate is used, also for redirects and token servers, and also for names such as localhost. The metadata
//     services of clouds and most APIs inside a cluster are therefore out of reach. The user still learns from the error whether a host
//     exists and whether a port is open.
//   - The operator does not connect to its own pod (loopback) and to link-local addresses, whatever the name resolves to. This does not
//     apply behind a proxy (HTTPS_PROXY), which has to have rules of its own.
//   - A look-up is a series of requests without effects, and is limited in time, in the number of requests and redirects, and in the size of
//     each response. The size of a command is limited.
//   - An error shows at most 256 characters of an answer, quoted: the error message in the registry's protocol, or one value of a manifest,
//     such as its media type. It never shows another answer, for example that of a service which is not a registry.
//   - The requests are anonymous, or use the credentials that the cluster admin gives to the operator ([Reader.Keychain]). They never use
//     a Secret of a tenant. With such credentials, a user can learn the command of every image that the credentials can read.
//   - [Lookups] limits the number of look-ups at the same time and the number that wait, for all users together. A user with many images on slow
//     hosts can delay the look-ups of other users.
//
// What the look-up returns is chosen by the user, who could as well write it in the manifest: it runs in the user's pod only.
//
// An admin who does not want the operator to connect to registries turns the look-up off with a flag of the operator. The manifest of each
// stdio server must then have a command.
package registry
