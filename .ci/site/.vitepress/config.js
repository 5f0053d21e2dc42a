// The site of the Markdown files as they are: the pages are readable on GitHub, too, and this file adapts what differs there.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'
import { slug } from 'github-slugger'
import { withMermaid } from 'vitepress-plugin-mermaid'

const root = fileURLToPath(new URL('../../..', import.meta.url))

// The groups of the sidebar. Other pages of docs/ follow in a group of their own.
const groups = {
  'Use it': ['docs/demo.md', 'docs/installation.md', 'docs/releases.md', 'docs/field-ownership.md', 'docs/manifests.md', 'docs/sessions.md', 'docs/plugin.md', 'docs/api.md'],
  'Run it': ['docs/operations.md', 'docs/security.md', 'SECURITY.md', 'docs/reliability.md', 'docs/performance.md'],
  'Understand it': ['docs/tests.md', 'docs/operator-authors.md', 'CONTRIBUTING.md', 'CHANGELOG.md'],
}

const titleOf = page => readFileSync(join(root, page), 'utf8').match(/^# (.*)$/m)?.[1].replaceAll('`', '') ?? page
const item = page => ({ text: titleOf(page), link: '/' + page.replace(/\.md$/, '') })

function sidebar() {
  const all = Object.entries(groups).map(([text, pages]) => ({ text, items: pages.map(item) }))
  const more = readdirSync(join(root, 'docs')).filter(name => name.endsWith('.md')).map(name => `docs/${name}`)
    .filter(page => !Object.values(groups).flat().includes(page))
  if (more.length) all.push({ text: 'More', items: more.map(item) })
  return all
}

// The linked files that are not pages, such as manifests. The site has copies of them that a browser shows as text.
const linked = new Set()

// adaptLinks makes the links to files that are not pages, and to the README, work on the site.
function adaptLinks(md) {
  md.core.ruler.push('adapt-links', ({ tokens, env }) => {
    for (const token of tokens.flatMap(token => token.children ?? []).filter(token => token.type === 'link_open')) {
      const href = token.attrGet('href')
      if (/^(https?:|#)/.test(href)) continue
      const [path, anchor] = href.split('#')
      const target = posix.join(posix.dirname(env.relativePath === 'index.md' ? 'README.md' : env.relativePath), path)
      if (target === 'README.md') {
        token.attrSet('href', '/' + (anchor ? '#' + anchor : ''))
      } else if (!path.endsWith('.md')) {
        if (!existsSync(join(root, target))) throw new Error(`${env.relativePath} has a link to ${target}, which does not exist`)
        linked.add(target)
        token.attrSet('href', `/${target}${isFolder(target) ? '/index.html' : '.txt'}`)
        token.attrSet('target', '_blank')
      }
    }
  })
}

// colorCode makes indented code look like fenced code, with colors and a button to copy it. The pages have commands and manifests.
function colorCode(md) {
  md.core.ruler.push('color-code', ({ tokens }) => {
    for (const token of tokens.filter(token => token.type === 'code_block')) {
      Object.assign(token, { type: 'fence', tag: 'code', markup: '```', info: token.content.startsWith('apiVersion:') ? 'yaml' : 'sh' })
    }
  })
}

// markWords marks inline code without spaces, such as the name of a flag, which looks ugly if it is broken at a hyphen.
function markWords(md) {
  md.core.ruler.push('mark-words', ({ tokens }) => {
    for (const token of tokens.flatMap(token => token.children ?? [])) {
      if (token.type === 'code_inline' && !token.content.includes(' ') && token.content.length < 36) token.attrJoin('class', 'word')
    }
  })
}

// markCells marks the cells of tables that have a long text, which would be a narrow column on a phone.
function markCells(md) {
  md.core.ruler.push('mark-cells', ({ tokens }) => {
    tokens.forEach((token, i) => {
      if (token.type === 'td_open' && tokens[i + 1].content.length > 60) token.attrJoin('class', 'long')
    })
  })
}

const isFolder = path => statSync(join(root, path)).isDirectory()

function copyLinked({ outDir }) {
  for (const target of linked) {
    const files = isFolder(target) ? readdirSync(join(root, target)).filter(name => !isFolder(posix.join(target, name))) : []
    for (const file of isFolder(target) ? files.map(name => posix.join(target, name)) : [target]) {
      mkdirSync(dirname(join(outDir, file)), { recursive: true })
      cpSync(join(root, file), join(outDir, `${file}.txt`))
    }
    if (isFolder(target)) {
      writeFileSync(join(outDir, target, 'index.html'), `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${target}</title>` +
        `<link rel="icon" href="data:,"><body style="font-family: sans-serif; overflow-wrap: anywhere"><h1>${target}</h1><ul>` +
        files.map(name => `<li><a href="${name}.txt">${name}</a></li>`).join('') + '</ul></body></html>\n')
    }
  }
}

export default withMermaid({
  title: 'mcpserver-operator',
  description: 'Runs MCP servers on Kubernetes, and leaves the scale to its owner.',
  srcDir: root,
  srcExclude: ['bin/**', 'tests/**', '.ci/**'],
  outDir: join(root, 'bin/site'),
  cacheDir: join(root, 'bin/site-cache'),
  rewrites: { 'README.md': 'index.md' },
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  markdown: {
    // The anchors are those of GitHub.
    anchor: { slugify: slug },
    config: md => { md.use(adaptLinks).use(colorCode).use(markWords).use(markCells) },
  },
  themeConfig: {
    search: { provider: 'local' },
    sidebar: sidebar(),
    outline: [2, 3],
    nav: [{ text: 'Demo', link: '/docs/demo' }, { text: 'Installation', link: '/docs/installation' }, { text: 'API', link: '/docs/api' }],
  },
  vite: {
    // The pages are not below node_modules.
    resolve: {
      alias: [
        { find: /^vue$/, replacement: fileURLToPath(import.meta.resolve('vue/dist/vue.runtime.esm-bundler.js')) },
        { find: /^vue\/server-renderer$/, replacement: fileURLToPath(import.meta.resolve('vue/server-renderer')) },
      ],
    },
    // The search index and the diagrams are large, and loaded only when a page needs them.
    build: { chunkSizeWarningLimit: 4000 },
  },
  // Wide tables, and those with names of tests, get the room of the outline.
  transformPageData(page) {
    if (/^\|( --- \|){6}|^\| trap \|/m.test(readFileSync(join(root, page.filePath), 'utf8'))) page.frontmatter.aside = false
  },
  buildEnd: copyLinked,
})
