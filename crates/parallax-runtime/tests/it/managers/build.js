const fs = require('fs');
require('isarray');
fs.mkdirSync('dist', {recursive: true});
fs.copyFileSync('agent.js', 'dist/index.js');
