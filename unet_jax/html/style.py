"""How the page looks: one column on a phone, light or dark as the reader's system is."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --muted: #5c5c66; --ground: #fff; --card: #f5f5f8;
  --rule: #d9d9df; --error: #b3003c; --warning: #8a5300; --fine: #00694c; --code: #ececf1;
  --score: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --muted: #a6a6b2; --ground: #141417;
  --card: #1e1e23; --rule: #3a3a42; --error: #ff7a9c; --warning: #f2b35a; --fine: #4fd1a5;
  --code: #2a2a31; --score: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 1080px; color: var(--ink);
  background: var(--ground); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .3rem 0 .8rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .8rem; padding-top: .7rem;
  border-top: 2px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0; max-width: 75ch; }
.muted, figcaption, th { color: var(--muted); }
.verdict { display: inline-block; margin: 0 0 .8rem; padding: .3rem .8rem; border-radius: 999px;
  color: var(--ground); font-weight: 600; background: var(--fine); }
.verdict.error { background: var(--error); }
.verdict.warning { background: var(--warning); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; }
dt { color: var(--muted); }
dd { margin: 0; min-width: 0; }
nav a { display: inline-block; margin: .6rem 1.2rem 0 0; padding: .3rem 0; color: inherit; }
.finding { margin: 0 0 1rem; padding: .8rem 1rem; border-left: 4px solid var(--warning);
  border-radius: 6px; background: var(--card); }
.finding.error { border-left-color: var(--error); }
.finding pre { max-height: 20rem; overflow-y: auto; }
.finding h3 { margin: 0; }
.finding b { color: var(--warning); }
.finding.error b { color: var(--error); }
pre { margin: .3rem 0 .6rem; padding: .6rem .8rem; border-radius: 6px; background: var(--code);
  font: 14px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; user-select: all; -webkit-user-select: all; }
.thumbnails { display: grid; gap: .8rem; margin: .6rem 0; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(115px, 44%), 1fr)); }
figure { margin: 0; min-width: 0; }
.thumbnails img { display: block; width: 100%; max-width: 256px; height: auto; border-radius: 4px; }
.thumbnails img.small { image-rendering: pixelated; }
figcaption { font-size: 14px; line-height: 1.3; margin-top: .2rem; }
.gone { display: grid; place-items: center; aspect-ratio: 4 / 3; max-width: 256px; padding: .5rem;
  border: 1px dashed var(--rule); border-radius: 4px; color: var(--muted); font-size: 14px;
  text-align: center; }
.class { margin: 0 0 .7rem; }
dd span { display: inline-block; margin-right: .8rem; }
.swatch, dd .swatch { display: inline-block; width: .9em; height: .9em; margin-right: .5em;
  border: 1px solid var(--rule); vertical-align: -.1em; }
.bar { height: .7rem; margin-top: .2rem; border-radius: 3px; background: var(--code);
  overflow: hidden; }
.bar div { height: 100%; min-width: 1px; }
.charts { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
svg { display: block; width: 100%; height: auto; background: var(--card); border-radius: 6px; }
.ends { display: flex; justify-content: space-between; font-size: 14px; color: var(--muted); }
.value { margin: 0 0 .9rem; }
details summary { cursor: pointer; padding: .3rem 0; }
.broad { max-width: 1480px; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 0 0 .8rem; }
.tile { padding: .5rem 1rem; border-radius: 8px; background: var(--card); }
.tile strong { display: block; font-size: 2.1rem; line-height: 1.15; }
.tile span { color: var(--muted); font-size: 14px; }
.glance { display: grid; gap: .4rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); }
.glance h3 { margin-top: .6rem; }
.glance ul { margin: .3rem 0; padding-left: 1.1rem; }
.row { display: grid; grid-template-columns: 1fr max-content; gap: 0 .8rem; margin: .25rem 0; }
.row .bar { grid-column: 1 / -1; margin: 0; }
.score div { background: var(--score); }
.wide { max-width: 100%; margin: .6rem 0; overflow-x: auto; -webkit-overflow-scrolling: touch; }
.wide img { display: block; width: 100%; height: auto; border-radius: 6px; }
.small { max-width: 480px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15rem .8rem .15rem 0; text-align: left; }
footer { margin-top: 2.5rem; color: var(--muted); font-size: 14px; }
"""
