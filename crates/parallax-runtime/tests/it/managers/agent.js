let development = 'is gone';
try {
  require.resolve('isarray');
  development = 'is still there';
} catch {
  // What only the build needed was removed.
}
console.log(`ms says ${require('ms')(60000)}, isarray ${development}`);
setInterval(() => {}, 1000);
