import { script, style } from "./assets.js"

/**
 * The policy of the page: nothing but what it brings itself, and its own events.
 *
 * @internal
 */
export const contentSecurityPolicy = (nonce: string): string =>
  [
    "default-src 'none'",
    `script-src 'nonce-${nonce}'`,
    `style-src 'nonce-${nonce}'`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'"
  ].join("; ")

/**
 * The page. Nothing of an instance stands in it: the script puts all that in as text.
 *
 * @internal
 */
export const page = (nonce: string): string =>
  `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>Resilience</title>
<link rel="icon" href="data:,">
<style nonce="${nonce}">${style}</style>
</head>
<body>
<noscript>This page shows live figures and needs JavaScript.</noscript>
<div id="app"></div>
<script nonce="${nonce}" type="module">${script}</script>
</body>
</html>
`
