// Draws the plots of docs/performance.md and docs/reliability.md from the results in docs/results. The same results always give the
// same plots. With --check, it draws nothing, and fails if a committed plot is out of date.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as vega from 'vega'
import { compile } from 'vega-lite'

const docs = fileURLToPath(new URL('../../docs', import.meta.url))

// heading returns the heading that begins with a title.
function heading(file, title) {
  const lines = readFileSync(join(docs, 'results', file), 'utf8').split('\n')
  return lines.find(line => line.replace(/^#+ /, '').startsWith(title))
}

// table returns the rows of the Markdown table below the heading that begins with a title, or of the first table if there is no title.
function table(file, title) {
  const lines = readFileSync(join(docs, 'results', file), 'utf8').split('\n')
  const heading = title ? lines.findIndex(line => line.replace(/^#+ /, '').startsWith(title)) : 0
  const first = lines.findIndex((line, i) => i >= heading && line.startsWith('|'))
  if (heading < 0 || first < 0) throw new Error(`docs/results/${file} has no table "${title}"`)
  const cells = line => line.split('|').slice(1, -1).map(cell => cell.trim())
  const header = cells(lines[first])
  const rows = []
  for (const line of lines.slice(first + 2)) {
    if (!line.startsWith('|')) break
    const row = cells(line)
    // Of two columns with the same name, the first counts.
    rows.push(Object.fromEntries(header.map((name, i) => [name, row[i]]).reverse()))
  }
  return rows
}

// number reads "18.1", "4.7 s" or "389 ms". spread reads "6.8 (4.7–14.7)": the median of the rounds, the lowest and the highest.
const number = text => {
  const value = Number.parseFloat(text)
  if (Number.isNaN(value)) throw new Error(`"${text}" is not a number`)
  return value
}
const spread = text => {
  const [value, low, high] = text.match(/[\d.]+/g).map(Number)
  return { value, low: low ?? value, high: high ?? value }
}

const light = { page: '#ffffff', text: '#1f2328', faint: '#59636e', grid: '#d0d7de', us: '#0969da', other: '#8c959f' }
const dark = { page: '#0d1117', text: '#f0f6fc', faint: '#9198a1', grid: '#3d444d', us: '#1f6feb', other: '#6e7681' }

const config = {
  background: light.page, padding: 20, font: 'Helvetica, Arial, sans-serif',
  title: { anchor: 'start', fontSize: 15, color: light.text, subtitleColor: light.faint, subtitleFontSize: 12, offset: 14 },
  axis: {
    labelColor: light.text, titleColor: light.faint, gridColor: light.grid, domainColor: light.grid, tickColor: light.grid,
    labelFontSize: 12, titleFontSize: 12, titleFontWeight: 'normal', labelLimit: 0,
  },
  axisY: { ticks: false, domain: false, labelPadding: 8 },
  header: { labelColor: light.text, labelFontSize: 12, labelFontWeight: 'bold', title: null, labelAnchor: 'start', labelOrient: 'top' },
  legend: { labelColor: light.text, labelFontSize: 12, title: null, orient: 'top', symbolType: 'square' },
  view: { stroke: null },
}

// bars draws a horizontal bar for each value, with its number at the end. The values that are ours have another color.
function bars({ title, subtitle, values, unit, axis }) {
  const named = values.map(v => ({ ...v, text: `${+v.value.toFixed(2)}${unit}` }))
  const y = { field: 'name', type: 'nominal', sort: null, title: null }
  const x = { field: 'value', type: 'quantitative', title: axis, axis: { tickCount: 6 }, scale: { domainMin: 0 } }
  const layer = [
    { mark: { type: 'bar', height: 16, cornerRadiusEnd: 2 }, encoding: { x, y, color: { field: 'ours', type: 'nominal', legend: null, scale: { domain: [true, false], range: [light.us, light.other] } } } },
  ]
  if (values.some(v => v.low !== undefined)) {
    layer.push({ mark: { type: 'rule', color: light.text, strokeWidth: 1.5 }, encoding: { y, x: { field: 'low', type: 'quantitative' }, x2: { field: 'high' } } })
    layer.push({ mark: { type: 'text', align: 'left', dx: 6, color: light.text, fontSize: 12 }, encoding: { y, x: { field: 'high', type: 'quantitative' }, text: { field: 'text' } } })
  } else {
    layer.push({ mark: { type: 'text', align: 'left', dx: 6, color: light.text, fontSize: 12 }, encoding: { y, x, text: { field: 'text' } } })
  }
  const plot = { width: 480, height: { step: 26 }, layer }
  const grouped = values.some(v => v.group !== undefined)
  return {
    title: { text: title, subtitle }, data: { values: named }, config,
    ...(grouped ? { facet: { row: { field: 'group', type: 'nominal', sort: [...new Set(values.map(v => v.group))] } }, spec: plot } : plot),
  }
}

const ours = name => name.startsWith('runner') || name.includes(': runner') || name === 'operator'
const targets = (rows, column) => rows.map(row => ({ name: row.target, ours: ours(row.target), ...spread(row[column]) }))
const single = rows => rows.filter(row => !row.target.startsWith('3 replicas'))

const plots = {
  'children.svg': () => bars({
    title: 'Until all children exist', subtitle: 'Time, as a multiple of a program that only writes. Lower is better.', axis: '× raw writer', unit: ' ×',
    values: table('operator.md', 'All children').map(row => ({
      group: `${row.MCPServers} MCPServers`, name: row.writer === 'raw' ? 'a program that only writes' : 'operator', ours: row.writer === 'operator', value: number(row['× raw']),
    })),
  }),
  'reaction.svg': () => bars({
    title: 'From an edit to the write of the StatefulSet', subtitle: `${Number(heading('operator.md', 'From an edit').match(/(\d+) MCPServers present/)[1]).toLocaleString('en')} MCPServers present. The program only applies when it sees an edit.`, axis: 'milliseconds', unit: ' ms',
    values: table('operator.md', 'From an edit').filter(row => ['plain reaction', 'operator'].includes(row.what)).flatMap(row => ['p50', 'p99'].map(p => ({
      group: row.meanwhile, name: `${row.what === 'operator' ? 'operator' : 'a program that only applies'}, ${p}`, ours: row.what === 'operator', value: number(row[p]),
    }))).sort((a, b) => a.group === b.group ? a.name.slice(-3).localeCompare(b.name.slice(-3)) : 0),
  }),
  'calls.svg': () => bars({
    title: 'Calls per second, 20 clients', subtitle: 'The median of 15 rounds; the line is from the lowest to the highest round. Higher is better.', axis: 'calls per second', unit: '',
    values: targets(single(table('runner.md', '20 clients')), 'calls per second'),
  }),
  'opening.svg': () => bars({
    title: 'Opening a session', subtitle: 'The median of 15 rounds; the line is from the lowest to the highest round. Lower is better.', axis: 'milliseconds, p50', unit: ' ms',
    values: targets(table('runner.md', 'Opening'), 'p50, ms'),
  }),
  'memory.svg': () => bars({
    title: 'Memory of the bridge with 200 sessions', subtitle: 'Without the server. Lower is better.', axis: 'MiB', unit: ' MiB',
    values: [['without a stream', 'idle'], ['with a stream', 'with an open stream each']].flatMap(([title, group]) =>
      single(table('runner.md', `Resident memory of sessions ${title}`)).map(row => ({ group, name: row.target, ours: ours(row.target), value: number(row['200 sessions, MiB']) }))),
  }),
  'recovery.svg': () => {
    const values = table('faults.md').map(row => ({ name: row.fault.split(/: |; |, then| \(/)[0].replace(/^\d+ answers of/, 'answers'), recovery: number(row.recovery) }))
    // A run has a row for each round.
    const names = [...new Set(values.map(v => v.name))]
    const rounds = name => values.filter(v => v.name === name).map(v => v.recovery).sort((a, b) => a - b)
    const many = names.length < values.length
    return bars({
      title: 'Recovery after a fault', axis: 'seconds', unit: ' s',
      subtitle: many ? 'The median of the rounds; the line is from the fastest to the slowest.' : 'From the end of the fault until every MCPServer was as its user asked. "none" is the time of the actions themselves.',
      values: names.map(name => ({
        name, ours: name !== 'none', value: rounds(name)[Math.floor((rounds(name).length - 1) / 2)],
        ...(many && { low: rounds(name)[0], high: rounds(name).at(-1) }),
      })),
    })
  },
}

// On a dark page, other colors replace those of the light page.
const style = '<style>@media (prefers-color-scheme: dark) {' + Object.keys(light).map(key =>
  `[fill="${light[key]}"]{fill:${dark[key]}}[stroke="${light[key]}"]{stroke:${dark[key]}}`).join('') + '}</style>'

let outdated = 0
for (const [name, spec] of Object.entries(plots)) {
  const view = new vega.View(vega.parse(compile(spec()).spec), { renderer: 'none' })
  const svg = (await view.toSVG()).replace(/(<svg[^>]*>)/, `$1${style}`) + '\n'
  const path = join(docs, 'pictures', name)
  if (!process.argv.includes('--check')) {
    writeFileSync(path, svg)
  } else if (readFileSync(path, 'utf8') !== svg) {
    console.error(`docs/pictures/${name} is out of date: run make plots`)
    outdated++
  }
}
process.exitCode = outdated ? 1 : 0
